// Package web is the page that shows a running daemon in a browser: files that are
// part of the program, and the handler that serves them. The page is a client of
// the API like any other and gets nothing that the API does not give; this package does
// not know the daemon.
//
// The files are in assets. They are used as they are: plain modules, no build step.
// Nothing is loaded from another host, and the Content-Security-Policy sees to it.
package web
