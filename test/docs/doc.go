// Package docs tests what the documents say of the tests. There is nothing here
// but tests.
package docs
