package initiator_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/initiator"
)

func TestParseURL(t *testing.T) {
	const iqn = "iqn.2026-11.com.example:disk"
	tests := []struct {
		name string
		in   string
		want initiator.URL
		out  string
	}{
		{"portal", "iscsi://10.0.0.1", initiator.URL{Address: "10.0.0.1:3260"}, "iscsi://10.0.0.1:3260"},
		{"port", "iscsi://host:860", initiator.URL{Address: "host:860"}, "iscsi://host:860"},
		{"IPv6", "iscsi://[::1]:3261/" + iqn + "/7", initiator.URL{Address: "[::1]:3261", TargetName: iqn, LUN: 7, HasLUN: true}, "iscsi://[::1]:3261/" + iqn + "/7"},
		{"IPv6 without port", "iscsi://[fe80::1]/" + iqn, initiator.URL{Address: "[fe80::1]:3260", TargetName: iqn}, "iscsi://[fe80::1]:3260/" + iqn},
		{"user", "iscsi://joe@h/" + iqn + "/0", initiator.URL{Address: "h:3260", TargetName: iqn, HasLUN: true, User: "joe"}, "iscsi://joe@h:3260/" + iqn + "/0"},
		{"secret", "iscsi://joe%se@c%ret@h/" + iqn + "/0", initiator.URL{Address: "h:3260", TargetName: iqn, HasLUN: true, User: "joe", Secret: "se@c%ret"}, "iscsi://joe@h:3260/" + iqn + "/0"},
		{"arguments", "iscsi://a%b@h/" + iqn + "/1?target_user=t&target_password=p&header_digest=CRC32C&data_digest=None", initiator.URL{
			Address: "h:3260", TargetName: iqn, LUN: 1, HasLUN: true, User: "a", Secret: "b",
			TargetUser: "t", TargetSecret: "p", HeaderDigest: "CRC32C", DataDigest: "None",
		}, "iscsi://a@h:3260/" + iqn + "/1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := initiator.ParseURL(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			if got.String() != tt.out {
				t.Errorf("String() = %q, want %q", got.String(), tt.out)
			}
		})
	}
}

func TestParseURLRefuses(t *testing.T) {
	for _, in := range []string{
		"", "http://h/t/0", "iscsi://", "iscsi://u%topsecret@", "iscsi://h:0", "iscsi://h:99999",
		"iscsi://::1/t/0", "iscsi://u%topsecret@h//0", "iscsi://u%topsecret@h/t/x", "iscsi://h/t/16384", "iscsi://h/t/-1",
		"iscsi://h/t/0/1", "iscsi://h/t/0?nonsense=1", "iscsi://u%topsecret@h/t/0?%zz",
	} {
		t.Run(in, func(t *testing.T) {
			_, err := initiator.ParseURL(in)
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "topsecret") {
				t.Errorf("secret in error: %v", err)
			}
		})
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("iscsi://a%b@[::1]:1/iqn.x/3?header_digest=CRC32C")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := initiator.ParseURL(s)
		if err != nil {
			return
		}
		again, err := initiator.ParseURL(u.String())
		if err != nil && !strings.ContainsAny(u.User+u.TargetName+u.Address, "@%?/") {
			t.Fatalf("%q: own String %q does not parse: %v", s, u.String(), err)
		}
		if err == nil && again.Address != u.Address {
			t.Fatalf("%q: address %q, then %q", s, u.Address, again.Address)
		}
	})
}
