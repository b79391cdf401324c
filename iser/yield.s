// Has the compiler take a function without a body, see yield.go.
