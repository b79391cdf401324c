// Package web_test looks at the web page with Debian's Chromium, as people do: a
// daemon runs with sessions and load on it, and what the page shows is compared with
// what the API says. The tests run with ISERD_INTEROP=1 or under CI.
package web_test
