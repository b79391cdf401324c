// Package text reads and writes the key=value text of Login and Text PDUs,
// RFC 7143 §6.1.
//
// [Parse] and [Append] work on the text itself, [Collector] puts text together
// that comes in several PDUs (the C bit), and the Parse functions for values
// read the syntaxes of §6.1: numbers, ranges, booleans, lists and binary.
//
// The package is not for negotiation: it knows no key, no default and no result
// function, and a key that comes twice is the caller's business. It does no
// I/O. Everything it reads comes from a peer that may not be authenticated yet,
// so all lengths and counts are bounded before memory is taken. Errors never
// contain a value, which may be a secret; they wrap one of the Err variables.
package text
