package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/native"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
)

// What "iserd rdma -o json" prints.
type (
	rdmaProvider struct {
		Name    string       `json:"name"`
		About   string       `json:"about"`
		Error   string       `json:"error,omitempty"` // why it can't be used
		Devices []rdmaDevice `json:"devices"`
	}
	rdmaDevice struct {
		Name           string     `json:"name"`
		Transport      string     `json:"transport"`
		Firmware       string     `json:"firmware"`
		SendInvalidate bool       `json:"send_with_invalidate"`
		Windows        bool       `json:"memory_windows"`
		OnDemand       bool       `json:"on_demand_paging"`
		ReadsUnderWay  int        `json:"rdma_reads_under_way"`
		ReadsAnswered  int        `json:"rdma_reads_answered"`
		QueuePairs     int        `json:"queue_pairs"`
		Requests       int        `json:"requests"`        // of a queue pair
		LongestMessage uint32     `json:"longest_message"` // bytes
		NearCPUs       []int      `json:"near_cpus"`       // empty: all are
		Error          string     `json:"error,omitempty"` // why its ports can't be told
		Ports          []rdmaPort `json:"ports"`
	}
	rdmaPort struct {
		Number    int           `json:"number"`
		State     string        `json:"state"`
		Usable    bool          `json:"usable"`
		LinkLayer string        `json:"link_layer"`
		MTU       int           `json:"mtu"` // bytes
		Interface string        `json:"interface"`
		Rate      string        `json:"rate"`
		Addresses []rdmaAddress `json:"addresses"`
	}
	rdmaAddress struct {
		Address string `json:"address"`
		Type    string `json:"type"`
	}
)

func newRDMA() *cobra.Command {
	c := &link{}
	cmd := &cobra.Command{
		Use:   "rdma",
		Short: "List RDMA providers, devices and ports, and why one can't be used",
		Long: `Rdma asks this machine, not the daemon: which adapters there are, whether their
links are up, and what they can do. iSER works without any, by iWARP in software.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(c.output); err != nil {
				return err
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []rdmaProvider{}
			for _, p := range []struct {
				verbs.Provider
				about string
			}{
				{native.New(), "adapters, by the system's RDMA libraries"},
				{softiwarp.New(softiwarp.Config{}), "iWARP in software, over TCP, at every address"},
			} {
				all = append(all, providerJSON(p, p.about))
				if err := p.Close(); err != nil {
					return err
				}
			}
			return c.show(cmd.OutOrStdout(), all, func(w io.Writer) {
				for i := range all {
					providerText(w, &all[i])
				}
			})
		},
	}
	cmd.Flags().StringVarP(&c.output, "output", "o", "text", "`FORMAT`: text or json")
	return cmd
}

func providerJSON(p verbs.Provider, about string) rdmaProvider {
	x := rdmaProvider{Name: p.Name(), About: about, Devices: []rdmaDevice{}}
	devices, err := p.Devices()
	if err != nil {
		x.Error = err.Error()
	}
	for _, d := range devices {
		c := d.Caps()
		y := rdmaDevice{
			Name: d.Name(), Transport: c.Transport.String(), Firmware: c.Firmware, SendInvalidate: c.SendInv, Windows: c.Windows,
			OnDemand: c.OnDemandPaging, ReadsUnderWay: c.MaxInitRDAtom, ReadsAnswered: c.MaxRDAtom, QueuePairs: c.MaxQP,
			Requests: c.MaxWR, LongestMessage: c.MaxMessage, NearCPUs: append([]int{}, d.CPUs()...), Ports: []rdmaPort{},
		}
		ports, err := d.Ports()
		if err != nil {
			y.Error = err.Error()
		}
		for i := range ports {
			y.Ports = append(y.Ports, portJSON(&ports[i]))
		}
		x.Devices = append(x.Devices, y)
	}
	return x
}

func portJSON(p *verbs.Port) rdmaPort {
	x := rdmaPort{
		Number: p.Number, State: p.State.String(), Usable: p.State == verbs.PortActive, LinkLayer: p.LinkLayer.String(),
		MTU: p.ActiveMTU, Interface: p.NetDev, Rate: p.Rate, Addresses: []rdmaAddress{},
	}
	for _, g := range p.GIDs {
		x.Addresses = append(x.Addresses, rdmaAddress{fmt.Sprint(g.Addr), g.Type.String()})
	}
	return x
}

func providerText(w io.Writer, p *rdmaProvider) {
	fmt.Fprintf(w, "%s: %s\n", p.Name, p.About)
	if p.Error != "" {
		fmt.Fprintf(w, "  not usable: %s\n", p.Error)
	}
	for i := range p.Devices {
		d := &p.Devices[i]
		fmt.Fprintf(w, "  %s: %s, firmware %s\n", d.Name, d.Transport, orNone(d.Firmware))
		fmt.Fprintf(w, "    Send with Invalidate %s, memory windows %s, on-demand paging %s\n",
			yesNo(d.SendInvalidate), yesNo(d.Windows), yesNo(d.OnDemand))
		fmt.Fprintf(w, "    RDMA Reads under way %d, answered %d; queue pairs %d of %d requests; longest message %d bytes\n",
			d.ReadsUnderWay, d.ReadsAnswered, d.QueuePairs, d.Requests, d.LongestMessage)
		if len(d.NearCPUs) > 0 {
			fmt.Fprintf(w, "    near CPUs %s\n", cpuList(d.NearCPUs))
		}
		if d.Error != "" {
			fmt.Fprintf(w, "    ports: %s\n", d.Error)
		}
		for k := range d.Ports {
			portText(w, &d.Ports[k])
		}
	}
}

// cpuList writes numbers in ascending order as the kernel does: "0-3,8".
func cpuList(cpus []int) string {
	var b strings.Builder
	for i := 0; i < len(cpus); i++ {
		first := i
		for i+1 < len(cpus) && cpus[i+1] == cpus[i]+1 {
			i++
		}
		if first > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, cpus[first])
		if i > first {
			fmt.Fprintf(&b, "-%d", cpus[i])
		}
	}
	return b.String()
}

func portText(w io.Writer, p *rdmaPort) {
	fmt.Fprintf(w, "    port %d: %s, %s, MTU %d", p.Number, p.State, p.LinkLayer, p.MTU)
	if p.Interface != "" {
		fmt.Fprintf(w, ", %s", p.Interface)
	}
	if p.Rate != "" {
		fmt.Fprintf(w, ", %s", p.Rate)
	}
	if !p.Usable {
		fmt.Fprint(w, " (not usable: the link is not up)")
	}
	fmt.Fprintln(w)
	for _, a := range p.Addresses {
		fmt.Fprintf(w, "      %s (%s)\n", a.Address, a.Type)
	}
}

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func orNone(s string) string {
	if s == "" {
		return "not told"
	}
	return s
}
