// Package differential sends the same CDBs to iserd, to the target of the Linux
// kernel (LIO, in a guest of the lab) and to Debian's tgt. Where status, sense or
// residual differ, testdata/differences.txt has to say which clause decides it.
// There is nothing here but the test.
package differential
