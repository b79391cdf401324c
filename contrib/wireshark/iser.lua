-- SPDX-License-Identifier: Apache-2.0
--
-- iSER (RFC 7145) over iWARP for Wireshark and tshark: Wireshark's own dissector
-- is for InfiniBand and RoCE alone. It shows the iSER header of each RDMAP Send
-- and gives the PDU behind it to the dissector of iSCSI.
--
--     tshark -X lua_script:iser.lua -r capture.pcap
--
-- or copy it to the personal plugins directory (Help, About, Folders).

local iser = Proto("iwarp_iser", "iSCSI Extensions for RDMA (iWARP)")

local opcodes = { [1] = "Control-Type PDU", [2] = "Hello", [3] = "HelloReply" }

local f = iser.fields
f.opcode = ProtoField.uint8("iwarp_iser.opcode", "Opcode", base.DEC, opcodes, 0xf0)
f.wsv = ProtoField.bool("iwarp_iser.wsv", "Write STag valid", 8, nil, 0x08)
f.rsv = ProtoField.bool("iwarp_iser.rsv", "Read STag valid", 8, nil, 0x04)
f.rej = ProtoField.bool("iwarp_iser.rej", "Reject", 8, nil, 0x01)
f.write_stag = ProtoField.uint32("iwarp_iser.write_stag", "Write STag", base.HEX)
f.write_base = ProtoField.uint64("iwarp_iser.write_base_offset", "Write base offset", base.HEX)
f.read_stag = ProtoField.uint32("iwarp_iser.read_stag", "Read STag", base.HEX)
f.read_base = ProtoField.uint64("iwarp_iser.read_base_offset", "Read base offset", base.HEX)
f.max_version = ProtoField.uint8("iwarp_iser.max_version", "Maximum version", base.DEC, nil, 0xf0)
f.version = ProtoField.uint8("iwarp_iser.version", "Minimum or current version", base.DEC, nil, 0x0f)
f.ird = ProtoField.uint16("iwarp_iser.ird", "iSER-IRD", base.DEC)
f.ord = ProtoField.uint16("iwarp_iser.ord", "iSER-ORD", base.DEC)

local HEADER, BHS = 28, 48

-- The opcodes that travel in a control-type PDU, RFC 7145 section 7.3, without
-- the immediate bit. Data-In, R2T and SNACK do not.
local travels = {}
for _, op in ipairs({ 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06,
                      0x20, 0x21, 0x22, 0x23, 0x24, 0x26, 0x32, 0x3f }) do
  travels[op] = true
end

local iscsi = Dissector.get("iscsi")

-- looks_right tells whether the bytes are an iSER message: the header's
-- reserved bits are 0 (section 9.2), and the PDU is as long as it says.
local function looks_right(tvb)
  local n = tvb:len()
  if n < HEADER then return false end
  local op = tvb(0, 1):bitfield(0, 4)
  if op == 2 or op == 3 then
    return n == HEADER and tvb(12, 4):uint() == 0
  end
  if op ~= 1 or n < HEADER + BHS then return false end
  if tvb(0, 1):bitfield(6, 2) ~= 0 or tvb(1, 3):uint() ~= 0 then return false end
  local first = tvb(HEADER, 1):uint()
  if first >= 0x80 or not travels[first % 0x40] then return false end
  local need = HEADER + BHS + 4 * tvb(HEADER + 4, 1):uint() + tvb(HEADER + 5, 3):uint()
  return n >= need and n <= need + 3 -- padding may be there or not
end

local function hello(tvb, tree, op)
  if op == 3 then tree:add(f.rej, tvb(0, 1)) end
  tree:add(f.max_version, tvb(1, 1))
  tree:add(f.version, tvb(1, 1))
  tree:add(op == 2 and f.ird or f.ord, tvb(2, 2))
end

function iser.dissector(tvb, pinfo, root)
  local op = tvb(0, 1):bitfield(0, 4)
  local tree = root:add(iser, tvb(0, HEADER))
  tree:add(f.opcode, tvb(0, 1))
  if op ~= 1 then
    hello(tvb, tree, op)
    pinfo.cols.info:append(" iSER " .. opcodes[op])
    return tvb:len()
  end
  tree:add(f.wsv, tvb(0, 1))
  tree:add(f.rsv, tvb(0, 1))
  if tvb(0, 1):bitfield(4, 1) == 1 then
    tree:add(f.write_stag, tvb(4, 4))
    tree:add(f.write_base, tvb(8, 8))
  end
  if tvb(0, 1):bitfield(5, 1) == 1 then
    tree:add(f.read_stag, tvb(16, 4))
    tree:add(f.read_base, tvb(20, 8))
  end
  iscsi:call(tvb(HEADER):tvb(), pinfo, root)
  return tvb:len()
end

iser:register_heuristic("iwarp_ddp_rdmap", function(tvb, pinfo, root)
  if not looks_right(tvb) then return false end
  iser.dissector(tvb, pinfo, root)
  return true
end)
