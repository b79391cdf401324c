package differential

// field is a big endian number in a CDB.
type field struct{ at, n int }

func (f field) put(cdb []byte, v uint64) {
	for i := f.n - 1; i >= 0; i-- {
		cdb[f.at+i] = byte(v)
		v >>= 8
	}
}

func (f field) get(cdb []byte) (v uint64) {
	for _, b := range cdb[f.at : f.at+f.n] {
		v = v<<8 | uint64(b)
	}
	return v
}

func (f field) max() uint64 { return 1<<(8*f.n) - 1 }

// shape is what has to be known of a command to make one that is right.
type shape struct {
	lba    field // n is 0 without
	length field // transfer, allocation or parameter list length
	unit   int   // bytes that one of length stands for: 1, a block, or two
	out    bool  // data goes to the target
	fixed  int   // length of the data where no field says it
	lists  [][]byte
	// set are bits that the command needs.
	set map[int]byte
}

// The shapes of medium access commands.
func medium(lba, length field, unit int, out bool) shape {
	return shape{lba: lba, length: length, unit: unit, out: out}
}

func in(length field) shape { return shape{length: length, unit: 1} }
func out(length field, lists ...[]byte) shape {
	return shape{length: length, unit: 1, out: true, lists: lists}
}

var (
	lba6, len6   = field{2, 2}, field{4, 1}
	lba10, len10 = field{2, 4}, field{7, 2}
	lba12, len12 = field{2, 4}, field{6, 4}
	lba16, len16 = field{2, 8}, field{10, 4}
)

// persistent reserve out: RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
func keys(key, action byte) []byte {
	l := make([]byte, 24)
	l[7], l[15] = key, action
	return l
}

func padded(n int, b ...byte) []byte { return append(b, make([]byte, n-len(b))...) }

// shapes has every command of iserd. Writes store zeros and the lists change
// nothing that lasts, so that each case finds the same disk on every target.
var shapes = map[string]shape{
	"00": {}, "1B": {set: map[int]byte{4: 0x01}}, "1E": {}, "16": {}, "17": {}, "56": {}, "57": {},
	"03": in(field{4, 1}), "12": in(field{3, 2}), "A0": in(field{6, 4}),
	"25": {fixed: 8}, "9E/10": in(len16),
	"A3/05": in(field{6, 4}), "A3/0A": in(field{6, 4}), "A3/0C": in(field{6, 4}), "A3/0D": in(field{6, 4}), "A3/0F": in(field{6, 4}),
	"A4/0A": out(field{6, 4}, padded(8), padded(8, 0, 0, 0, 0, 0x0F), padded(8, 0, 0, 0, 0, 0, 0, 0x12, 0x34)),
	"A4/0F": out(field{6, 4}, padded(12)),
	"1A":    {length: field{4, 1}, unit: 1, set: map[int]byte{2: 0x3F}}, "5A": {length: len10, unit: 1, set: map[int]byte{2: 0x3F}}, "4D": in(len10), "4C": out(len10, nil),
	"15": {length: field{4, 1}, unit: 1, out: true, set: map[int]byte{1: 0x10}, lists: [][]byte{padded(4), padded(4, 0, 0, 0, 8), padded(6, 0, 0, 0, 0, 0x3E)}},
	"55": {length: len10, unit: 1, out: true, set: map[int]byte{1: 0x10}, lists: [][]byte{padded(8), padded(8, 0, 0, 0, 0, 0, 0, 0, 9), padded(10, 0, 0, 0, 0, 0, 0, 0, 0, 0x3E)}},
	"1D": out(field{3, 2}, nil), "3B": {length: field{6, 3}, unit: 1, out: true, set: map[int]byte{1: 0x0A}, lists: [][]byte{padded(64)}},
	"3C": in(field{6, 3}), "9B": in(len16), "37": in(len10), "B7": in(field{6, 4}),
	"08": medium(lba6, len6, blockBytes, false), "0A": medium(lba6, len6, blockBytes, true),
	"28": medium(lba10, len10, blockBytes, false), "2A": medium(lba10, len10, blockBytes, true),
	"A8": medium(lba12, len12, blockBytes, false), "AA": medium(lba12, len12, blockBytes, true),
	"88": medium(lba16, len16, blockBytes, false), "8A": medium(lba16, len16, blockBytes, true),
	"2E": medium(lba10, len10, blockBytes, true), "AE": medium(lba12, len12, blockBytes, true), "8E": medium(lba16, len16, blockBytes, true),
	"2F": medium(lba10, len10, 0, true), "AF": medium(lba12, len12, 0, true), "8F": medium(lba16, len16, 0, true),
	"34": medium(lba10, len10, 0, false), "90": medium(lba16, len16, 0, false),
	"35": medium(lba10, len10, 0, false), "91": medium(lba16, len16, 0, false),
	"89": medium(lba16, field{13, 1}, 2*blockBytes, true), "8B": medium(lba16, len16, blockBytes, true),
	"9C": medium(lba16, field{12, 2}, blockBytes, true),
	"41": {lba: lba10, length: len10, out: true, fixed: blockBytes}, "93": {lba: lba16, length: len16, out: true, fixed: blockBytes},
	"42":    out(len10, padded(8), padded(24, 0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8)),
	"9E/12": {lba: field{2, 8}, length: len16, unit: 1},
	"5E/00": in(len10), "5E/01": in(len10), "5E/02": in(len10), "5E/03": in(len10),
	"5F/00": out(field{5, 4}, keys(0, 1), keys(9, 1), keys(0, 0)), "5F/01": out(field{5, 4}, keys(0, 0), keys(1, 0)),
	"5F/02": out(field{5, 4}, keys(0, 0), keys(1, 0)), "5F/03": out(field{5, 4}, keys(0, 0), keys(1, 0)),
	"5F/04": out(field{5, 4}, keys(0, 1), keys(1, 2)), "5F/05": out(field{5, 4}, keys(0, 1), keys(1, 2)),
	"5F/06": out(field{5, 4}, keys(0, 1), keys(9, 1), keys(0, 0)), "5F/07": out(field{5, 4}, keys(0, 1)), "5F/08": out(field{5, 4}, keys(0, 1)),
	"83/00": out(len16, padded(16)), "83/01": out(len16, padded(48)), "83/1C": {},
	"84/00": in(len16), "84/03": in(len16), "84/04": in(len16), "84/05": in(len16), "84/01": in(len16),
	"48/01": out(len10, padded(8, 1, 0, 0, 4)), "48/02": out(len10, nil), "48/03": out(len10, nil), "48/1F": out(len10, nil),
	"04": {},
}
