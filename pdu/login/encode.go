package login

import (
	"strconv"

	"github.com/iserd/iserd/pdu/text"
)

// appendPair appends key=value with the name from the table.
func appendPair(dst []byte, id keyID, value string) []byte {
	return text.Append(dst, keyTable[id].name, value)
}

// appendNumber appends key=value with a decimal number.
func appendNumber(dst []byte, id keyID, n uint32) []byte {
	return appendPair(dst, id, strconv.FormatUint(uint64(n), 10))
}

// appendBool appends key=Yes or key=No.
func appendBool(dst []byte, id keyID, n uint32) []byte {
	return appendPair(dst, id, text.Bool(n == yes))
}
