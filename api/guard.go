package api

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Guard keeps the web sites that an administrator's browser visits away from h:
//
//   - A request that would change something must not come from a page of another
//     origin. The browser's client certificate, or a forwarded socket, would make it
//     an administrator's.
//   - The Host field has an address, "localhost" or one of names. A site that points
//     its own name at a loopback address is of the same origin as what answers there.
//
// With TLS the name is not looked at: there the certificate is for a name.
func Guard(h http.Handler, names []string) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 0, nil, problemf(ErrForbidden, "refused: the request comes from a page of another site"))
	}))
	h = origins.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Referrer-Policy", "no-referrer")
		if r.TLS == nil && !hostAllowed(r.Host, names) {
			answer(w, 0, nil, problemf(ErrForbidden,
				"not answered under the name %q: use localhost or an address; if a proxy asks, add the name to names in the http block of the configuration", r.Host))
			return
		}
		h.ServeHTTP(w, r)
	})
}

func hostAllowed(host string, names []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || host == "localhost" { // HTTP/1.0 has no Host; browsers do not speak it
		return true
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, host) })
}
