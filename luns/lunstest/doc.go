// Package lunstest is the acceptance kit for backends and filters: what luns/scsi
// relies on, as tests. A backend's own test is one call:
//
//	func TestAcceptance(t *testing.T) {
//		lunstest.Run(t, func(t *testing.T) luns.Backend {
//			b, err := mybackend.Open(filepath.Join(t.TempDir(), "disk"))
//			if err != nil {
//				t.Fatal(err)
//			}
//			return b
//		})
//	}
//
// Run it with -race. Capabilities that the backend does not have are skipped.
package lunstest
