package bench

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Each logical block that verify mode writes describes itself:
//
//	 0  magic "iserdbch"
//	 8  seed of the run
//	16  LBA
//	24  generation: how often this session has written this place, from 1
//	28  CRC32C of the block without these 4 bytes
//	32  filling that depends on all of the above
//
// All numbers are little endian.
const (
	patternMagic  = 0x6863626472657369 // "iserdbch"
	patternHeader = 32
	crcOffset     = 28
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fillPattern writes the pattern into p, whole blocks from lba on.
func fillPattern(p []byte, blockSize int, seed, lba uint64, generation uint32) {
	for ; len(p) >= blockSize; p, lba = p[blockSize:], lba+1 {
		b := p[:blockSize]
		binary.LittleEndian.PutUint64(b, patternMagic)
		binary.LittleEndian.PutUint64(b[8:], seed)
		binary.LittleEndian.PutUint64(b[16:], lba)
		binary.LittleEndian.PutUint32(b[24:], generation)
		x := seed ^ lba*0x9e3779b97f4a7c15 ^ uint64(generation)<<32 | 1
		for i := patternHeader; i+8 <= len(b); i += 8 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			binary.LittleEndian.PutUint64(b[i:], x)
		}
		binary.LittleEndian.PutUint32(b[crcOffset:], patternCRC(b))
	}
}

func patternCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:crcOffset], castagnoli), castagnoli, b[patternHeader:])
}

// anyGeneration in checkPattern takes every generation but wants the pattern.
const anyGeneration = 0

// checkPattern returns what is wrong with p, whole blocks from lba on; nil when
// nothing is.
func checkPattern(p []byte, blockSize int, seed, lba uint64, generation uint32) error {
	for ; len(p) >= blockSize; p, lba = p[blockSize:], lba+1 {
		b := p[:blockSize]
		gotSeed, gotLBA := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
		gotGeneration := binary.LittleEndian.Uint32(b[24:])
		switch {
		case binary.LittleEndian.Uint64(b) != patternMagic:
			return fmt.Errorf("LBA %d: no pattern (starts with % x), expected generation %d", lba, b[:16], generation)
		case binary.LittleEndian.Uint32(b[crcOffset:]) != patternCRC(b):
			return fmt.Errorf("LBA %d: CRC mismatch: torn or corrupt block (says LBA %d, generation %d)", lba, gotLBA, gotGeneration)
		case gotLBA != lba:
			return fmt.Errorf("LBA %d: holds the block of LBA %d: misdirected", lba, gotLBA)
		case gotSeed != seed:
			return fmt.Errorf("LBA %d: holds a block of another run (seed %d)", lba, gotSeed)
		case generation != anyGeneration && gotGeneration != generation:
			return fmt.Errorf("LBA %d: holds generation %d, generation %d was written last", lba, gotGeneration, generation)
		}
	}
	return nil
}
