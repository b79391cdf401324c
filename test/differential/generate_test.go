package differential

import (
	"fmt"
	"math/rand/v2"
)

// command is one row of the dispatch table as the target tells it.
type command struct {
	opcode byte
	action int    // service action, -1 without
	usage  []byte // CDB usage data: a one for each bit that is evaluated
}

// String is the operation code, with the service action: "2A", "9E/10".
func (c command) String() string {
	if c.action < 0 {
		return fmt.Sprintf("%02X", c.opcode)
	}
	return fmt.Sprintf("%02X/%02X", c.opcode, c.action)
}

// testCase is one CDB with its data.
type testCase struct {
	command string // "2A", "9E/10"
	kind    string // what is special about it
	cdb     []byte
	out     []byte // data-out
	before  []testCase
	in      int // bytes of data-in expected
}

// undo brings a target back to where it was before a command with this
// operation code.
var undo = map[byte][]testCase{
	0x5F: {
		{cdb: []byte{0x5F, 0x06, 0, 0, 0, 0, 0, 0, 24, 0}, out: keys(0, 1)},
		{cdb: []byte{0x5F, 0x03, 0, 0, 0, 0, 0, 0, 24, 0}, out: keys(1, 0)},
	},
	0x16: {{cdb: []byte{0x17, 0, 0, 0, 0, 0}}},
	0x56: {{cdb: []byte{0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0}}},
	0x1B: {{cdb: []byte{0x1B, 0, 0, 0, 1, 0}}},
	0x1E: {{cdb: []byte{0x1E, 0, 0, 0, 0, 0}}},
	0xA4: {
		{cdb: []byte{0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}, out: padded(8)},
		{cdb: []byte{0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}, out: padded(8, 0, 0, 0, 0, 0, 0, 0, 1)},
	},
}

// The kinds of cases.
const (
	kindValid     = "valid"
	kindReserved  = "reserved bit"
	kindBits      = "bits"
	kindLength    = "length field"
	kindEDTL      = "expected length"
	kindRange     = "out of range"
	kindControl   = "control byte"
	kindDirection = "direction"
	kindUnknown   = "unknown"

	kindRegistered = "registered"
	kindHolder     = "holder"
)

// generator makes cases from a seed.
type generator struct {
	*rand.Rand
	cases []testCase
}

// generate makes n cases for the commands of a unit: all kinds of each, what is
// not supported, and random ones for the rest.
func generate(seed uint64, commands []command, n int) ([]testCase, error) {
	g := &generator{}
	// Each command has numbers of its own: a new one changes no other's cases.
	random := make([]*rand.Rand, len(commands))
	for i, c := range commands {
		s, ok := shapes[c.String()]
		if !ok {
			return nil, fmt.Errorf("command %v has no shape here: add it to shapes", c)
		}
		random[i] = rand.New(rand.NewPCG(seed, uint64(c.opcode)<<8|uint64(c.action+1)))
		g.Rand = random[i]
		g.command(c, s)
	}
	g.unknown(commands)
	if len(g.cases) > n {
		return nil, fmt.Errorf("%d cases, want no more than %d", len(g.cases), n)
	}
	for i := 0; len(g.cases) < n; i++ {
		c := commands[i%len(commands)]
		g.Rand = random[i%len(commands)]
		g.bits(c, shapes[c.String()])
	}
	return g.cases, nil
}

// base is a valid CDB without any option.
func (g *generator) base(c command, s shape) testCase {
	cdb := make([]byte, len(c.usage))
	cdb[0] = c.opcode
	if c.action >= 0 {
		cdb[1] = byte(c.action)
	}
	for at, bits := range s.set {
		cdb[at] |= bits
	}
	if s.lba.n > 0 {
		s.lba.put(cdb, uint64(g.IntN(diskBlocks-64)))
	}
	t := testCase{command: c.String(), kind: kindValid, cdb: cdb}
	switch {
	case s.length.n == 0:
	case s.lists != nil:
		t.out = s.lists[g.IntN(len(s.lists))]
		s.length.put(cdb, uint64(len(t.out)))
	case s.unit == 1:
		s.length.put(cdb, min(252, s.length.max()))
	case s.unit == 2*blockBytes:
		s.length.put(cdb, 1) // more than LIO takes would hide everything else
	default:
		s.length.put(cdb, 1+g.Uint64N(16))
	}
	g.data(&t, s)
	return t
}

// data gives a case the data that its CDB asks for.
func (g *generator) data(t *testCase, s shape) {
	n := s.fixed
	if s.length.n > 0 && s.unit > 0 {
		n = int(min(s.length.get(t.cdb)*uint64(s.unit), 1<<20))
	}
	switch {
	case !s.out:
		t.in = n
	case s.lists == nil:
		t.out = make([]byte, n)
	default:
		t.out = padded(max(n, len(t.out)), t.out...)[:n]
	}
}

func (g *generator) add(t testCase, kind string) {
	t.kind = kind
	g.cases = append(g.cases, t)
}

func (g *generator) command(c command, s shape) {
	for range max(3, len(s.lists)) {
		g.add(g.base(c, s), kindValid)
	}
	g.reserved(c, s)
	for range 8 {
		g.bits(c, s)
	}
	g.lengths(c, s)
	g.expected(c, s)
	g.ranges(c, s)
	g.reservations(c, s)
	for _, bits := range []byte{0x04, 0x01, 0xC0} { // NACA, link, vendor
		t := g.base(c, s)
		t.cdb[len(t.cdb)-1] |= bits
		g.add(t, kindControl)
	}
}

// reserved sets bits that are not evaluated, each in a case of its own, up to
// fourteen of them.
func (g *generator) reserved(c command, s shape) {
	var zeros []int
	for i := range 8 * (len(c.usage) - 1) { // without the CONTROL byte
		if c.usage[i/8]&(0x80>>(i%8)) == 0 && (i/8 != 1 || c.action < 0 || i%8 < 3) {
			zeros = append(zeros, i)
		}
	}
	g.Shuffle(len(zeros), func(i, j int) { zeros[i], zeros[j] = zeros[j], zeros[i] })
	for _, i := range zeros[:min(len(zeros), 14)] {
		if i/8 == 0 {
			continue // the operation code
		}
		t := g.base(c, s)
		t.cdb[i/8] |= 0x80 >> (i % 8)
		g.add(t, kindReserved)
	}
}

// bits sets options at random: bits that are evaluated, outside of the LBA and
// the length.
func (g *generator) bits(c command, s shape) {
	t := g.base(c, s)
	for i := 1; i < len(t.cdb)-1; i++ {
		within := func(f field) bool { return f.n > 0 && i >= f.at && i < f.at+f.n }
		if within(s.lba) || within(s.length) {
			continue
		}
		mask := c.usage[i]
		if i == 1 && c.action >= 0 {
			mask &= 0xE0
		}
		few := g.Uint32()
		t.cdb[i] |= byte(few) & byte(few>>8) & mask // one in four of them
	}
	g.add(t, kindBits)
}

// lengths puts odd values into the length field, with data to match.
func (g *generator) lengths(c command, s shape) {
	if s.length.n == 0 {
		return
	}
	for _, n := range []uint64{0, 1, 3, 4, 7, 9, 17, 255, 256} {
		if n > s.length.max() || s.unit != 1 && n > 20 {
			continue
		}
		t := g.base(c, s)
		s.length.put(t.cdb, n)
		g.data(&t, s)
		g.add(t, kindLength)
	}
}

// expected has the initiator expect another length than the CDB says, and data
// in the other direction.
func (g *generator) expected(c command, s shape) {
	for _, more := range []int{-1, -512, 1, 512, 4096} {
		t := g.base(c, s)
		switch {
		case s.out && t.out != nil:
			t.out = make([]byte, max(0, len(t.out)+more))
		case s.out:
			t.out = make([]byte, max(0, more))
		default:
			t.in = max(0, t.in+more)
		}
		g.add(t, kindEDTL)
	}
	t := g.base(c, s)
	t.in, t.out = len(t.out), make([]byte, t.in)
	if t.in+len(t.out) > 0 {
		g.add(t, kindDirection)
	}
}

// What PERSISTENT RESERVE OUT has done before a case: registered key 1, and
// reserved with type 5, Write Exclusive - Registrants Only.
var (
	registering = testCase{cdb: []byte{0x5F, 0x06, 0, 0, 0, 0, 0, 0, 24, 0}, out: keys(0, 1)}
	reserving   = testCase{cdb: []byte{0x5F, 0x01, 5, 0, 0, 0, 0, 0, 24, 0}, out: keys(1, 0)}
)

// reservations has commands of persistent reservations sent by an I_T nexus that
// is registered, and by the holder of a reservation.
func (g *generator) reservations(c command, s shape) {
	if c.opcode != 0x5E && c.opcode != 0x5F {
		return
	}
	for i := range 12 {
		t := g.base(c, s)
		if c.opcode == 0x5F {
			t.cdb[2] = byte(g.IntN(10)) // TYPE, with some that there are not
			t.out = keys(1, byte(g.IntN(3)))
			s.length.put(t.cdb, 24)
		}
		t.before = []testCase{registering}
		kind := kindRegistered
		if i%2 == 1 {
			t.before, kind = append(t.before, reserving), kindHolder
		}
		g.add(t, kind)
	}
}

// ranges addresses blocks beyond the end of the disk.
func (g *generator) ranges(c command, s shape) {
	if s.lba.n == 0 {
		return
	}
	for _, lba := range []uint64{diskBlocks - 1, diskBlocks, diskBlocks + 1, 1<<31 + 7, 1<<32 - 1, 1<<63 - 1, 1<<64 - 1} {
		if lba > s.lba.max() {
			continue
		}
		t := g.base(c, s)
		s.lba.put(t.cdb, lba)
		g.add(t, kindRange)
	}
	// None at the end is within; none behind it is not.
	for _, lba := range []uint64{diskBlocks, diskBlocks + 1} {
		if lba > s.lba.max() || s.length.n == 0 {
			continue
		}
		t := g.base(c, s)
		s.lba.put(t.cdb, lba)
		s.length.put(t.cdb, 0)
		g.data(&t, s)
		g.add(t, kindRange)
	}
}

// unknown are all operation codes and service actions that are not supported.
func (g *generator) unknown(commands []command) {
	actions := map[byte]map[int]bool{}
	length := map[byte]int{}
	for _, c := range commands {
		if actions[c.opcode] == nil {
			actions[c.opcode] = map[int]bool{}
		}
		actions[c.opcode][c.action] = true
		length[c.opcode] = len(c.usage)
	}
	sizes := [8]int{6, 10, 10, 10, 16, 12, 10, 6} // SPC-5 4.2.5.1, by the group code
	for op := range 256 {
		known := actions[byte(op)]
		if known == nil {
			if op == 0x7F { // variable length: needs an AHS of its own
				continue
			}
			g.add(testCase{command: fmt.Sprintf("%02X", op), cdb: padded(sizes[op>>5], byte(op))}, kindUnknown)
			continue
		}
		for action := range 32 {
			if !known[-1] && !known[action] {
				name := command{opcode: byte(op), action: action}.String()
				g.add(testCase{command: name, cdb: padded(length[byte(op)], byte(op), byte(action))}, kindUnknown)
			}
		}
	}
}
