//go:build !(linux && cgo && (amd64 || arm64))

package native

import (
	"fmt"

	"github.com/iserd/iserd/iser/verbs"
)

// Provider stands for the adapters of the machine in a program that was built
// without them.
type Provider struct{}

var _ verbs.Provider = (*Provider)(nil)

// New returns the provider.
func New() *Provider { return &Provider{} }

// Name is "native".
func (p *Provider) Name() string { return "native" }

var errBuilt = fmt.Errorf("native: %w: this program was built without it (it needs Linux on amd64 or arm64, and cgo)", verbs.ErrUnavailable)

// Present reports that there is no device for this program.
func Present() bool { return false }

// Devices says that there are none.
func (p *Provider) Devices() ([]verbs.Device, error) { return nil, errBuilt }

// NewCM says that it cannot.
func (p *Provider) NewCM() (verbs.CM, error) { return nil, errBuilt }

// Close does nothing.
func (p *Provider) Close() error { return nil }
