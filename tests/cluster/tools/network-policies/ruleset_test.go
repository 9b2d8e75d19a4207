package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// The pods that the policies below are about. Of one namespace: a server and
// two others; of another, which is labelled team=other: one client.
const (
	server   = "198.18.0.10"
	client   = "198.18.0.11"
	stranger = "198.18.0.12"
	foreign  = "198.18.0.13"
	outside  = "203.0.113.7"
)

func pods() []*core.Pod {
	return []*core.Pod{
		runningPod("shop", server, "server"), runningPod("shop", client, "client"),
		runningPod("shop", stranger, "stranger"), runningPod("other", foreign, "client"),
	}
}

// runningPod listens on 6379, which it calls redis, and on 53 over UDP, which
// it calls dns.
func runningPod(namespace, address, app string) *core.Pod {
	return &core.Pod{
		ObjectMeta: meta.ObjectMeta{Namespace: namespace, Labels: map[string]string{"app": app}},
		Spec: core.PodSpec{NodeName: "node", Containers: []core.Container{{Ports: []core.ContainerPort{
			{Name: "redis", ContainerPort: 6379}, {Name: "dns", ContainerPort: 53, Protocol: core.ProtocolUDP},
		}}}},
		Status: core.PodStatus{Phase: core.PodRunning, PodIP: address},
	}
}

func snapshotOf(t *testing.T, pods []*core.Pod, specs ...string) snapshot {
	t.Helper()
	var policies []*networking.NetworkPolicy
	for _, spec := range specs {
		policy := &networking.NetworkPolicy{ObjectMeta: meta.ObjectMeta{Namespace: "shop"}}
		if err := yaml.UnmarshalStrict([]byte(spec), &policy.Spec); err != nil {
			t.Fatal(err)
		}
		policies = append(policies, policy)
	}
	namespaces := []*core.Namespace{
		{ObjectMeta: meta.ObjectMeta{Name: "shop"}},
		{ObjectMeta: meta.ObjectMeta{Name: "other", Labels: map[string]string{"team": "other"}}},
	}
	return newSnapshot(policies, pods, namespaces, netip.MustParsePrefix("198.18.0.0/17"))
}

// connects says whether the policies let a connection pass, which needs the
// leave of both ends.
func (s snapshot) connects(from, to string, protocol core.Protocol, port int32) bool {
	source, destination := netip.MustParseAddr(from), netip.MustParseAddr(to)
	passes := func(d direction, own, peer netip.Addr) bool {
		rules, isolated := s.isolated(d)[own]
		return !isolated || slices.ContainsFunc(rules, func(r rule) bool {
			within := func(prefix netip.Prefix) bool { return prefix.Contains(peer) }
			among := len(r.peers) == 0 || slices.ContainsFunc(r.peers, within)
			open := r.ports.protocol == "" || r.ports.protocol == protocol &&
				(r.ports.first == 0 || r.ports.first <= port && port <= r.ports.last)
			return among && !slices.ContainsFunc(r.except, within) && open
		})
	}
	return passes(egress, source, destination) && passes(ingress, destination, source)
}

func TestPoliciesLetPassWhatTheyNameAndNothingElse(t *testing.T) {
	type connection struct {
		from, to string
		protocol core.Protocol
		port     int32
	}
	tcp := func(from, to string, port int32) connection { return connection{from, to, core.ProtocolTCP, port} }
	udp := func(from, to string, port int32) connection { return connection{from, to, core.ProtocolUDP, port} }
	for _, c := range []struct {
		name     string
		policies []string
		pass     []connection
		blocked  []connection
	}{{
		name: "no policy",
		pass: []connection{tcp(foreign, server, 1), tcp(outside, server, 1), udp(server, outside, 1)},
	}, {
		name:     "nothing may come in",
		policies: []string{`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}`},
		pass:     []connection{tcp(server, client, 6379), tcp(stranger, client, 6379), tcp(server, server, 6379)},
		blocked:  []connection{tcp(client, server, 6379), tcp(outside, server, 6379), udp(client, server, 53)},
	}, {
		name:     "nothing may go out of any pod of the namespace",
		policies: []string{`{podSelector: {}, policyTypes: [Egress]}`},
		pass:     []connection{tcp(foreign, server, 6379), tcp(client, client, 6379)},
		blocked:  []connection{tcp(client, server, 6379), tcp(client, outside, 443)},
	}, {
		name: "an empty rule lets everybody in",
		policies: []string{
			`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}`,
			`{podSelector: {}, policyTypes: [Ingress], ingress: [{}]}`,
		},
		pass: []connection{tcp(client, server, 6379), tcp(foreign, server, 1), udp(outside, server, 53)},
	}, {
		name:     "pods of the own namespace, to one port",
		policies: []string{`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 6379}]}]}`},
		pass:     []connection{tcp(client, server, 6379)},
		blocked: []connection{
			tcp(client, server, 6380), udp(client, server, 6379), tcp(stranger, server, 6379), tcp(foreign, server, 6379), tcp(outside, server, 6379),
		},
	}, {
		name:     "a selector that no pod fits lets nobody in",
		policies: []string{`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: none}}}]}]}`},
		blocked:  []connection{tcp(client, server, 6379), tcp(outside, server, 6379)},
	}, {
		name:     "all pods of another namespace",
		policies: []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: other}}}]}]}`},
		pass:     []connection{tcp(foreign, server, 1), udp(foreign, client, 53)},
		blocked:  []connection{tcp(client, server, 1), tcp(outside, server, 1)},
	}, {
		name:     "some pods of any namespace",
		policies: []string{`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: client}}}]}]}`},
		pass:     []connection{tcp(client, server, 1), tcp(foreign, server, 1)},
		blocked:  []connection{tcp(stranger, server, 1)},
	}, {
		name:     "either of two peers",
		policies: []string{`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: other}}}, {podSelector: {matchLabels: {app: stranger}}}]}]}`},
		pass:     []connection{tcp(foreign, server, 1), tcp(stranger, server, 1)},
		blocked:  []connection{tcp(client, server, 1)},
	}, {
		name:     "a block of addresses with a hole",
		policies: []string{`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/29]}}]}], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}`},
		pass:     []connection{tcp("203.0.113.8", server, 1), tcp(server, outside, 1)},
		blocked:  []connection{tcp(outside, server, 1), tcp("198.51.100.1", server, 1), tcp(server, "198.51.100.1", 1), tcp(client, server, 1)},
	}, {
		name:     "a block of IPv6 is for nobody",
		policies: []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: "::/0"}}]}]}`},
		blocked:  []connection{tcp(client, server, 1), tcp(outside, server, 1)},
	}, {
		name:     "ports by number, range and protocol",
		policies: []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 80}, {port: 8000, endPort: 8010}, {protocol: UDP}]}]}`},
		pass:     []connection{tcp(client, server, 80), tcp(client, server, 8000), tcp(outside, server, 8010), udp(client, server, 1)},
		blocked:  []connection{tcp(client, server, 81), tcp(client, server, 7999), tcp(client, server, 8011)},
	}, {
		name:     "a port by its name on the pod that is called",
		policies: []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: redis}, {port: dns, protocol: UDP}, {port: dns}, {port: none}]}]}`},
		pass:     []connection{tcp(client, server, 6379), udp(client, server, 53)},
		blocked:  []connection{tcp(client, server, 53), tcp(client, server, 80)},
	}, {
		name:     "a port by its name, going out",
		policies: []string{`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: redis}], to: [{podSelector: {matchLabels: {app: server}}}, {ipBlock: {cidr: 0.0.0.0/0}}]}]}`},
		pass:     []connection{tcp(client, server, 6379)},
		blocked:  []connection{tcp(client, server, 80), tcp(client, stranger, 6379), tcp(client, outside, 6379)},
	}, {
		name:     "a port by its name, going out to any pod",
		policies: []string{`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: redis}]}]}`},
		pass:     []connection{tcp(client, server, 6379), tcp(client, foreign, 6379)},
		blocked:  []connection{tcp(client, server, 80), tcp(client, outside, 6379)},
	}, {
		name: "both ends have a say",
		policies: []string{
			`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}`,
			`{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}`,
		},
		blocked: []connection{tcp(client, server, 6379), tcp(stranger, server, 6379)},
	}, {
		name: "what two policies allow adds up",
		policies: []string{
			`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}`,
			`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: stranger}}}]}]}`,
		},
		pass:    []connection{tcp(client, server, 1), tcp(stranger, server, 1)},
		blocked: []connection{tcp(foreign, server, 1)},
	}} {
		s := snapshotOf(t, pods(), c.policies...)
		for want, connections := range map[bool][]connection{true: c.pass, false: c.blocked} {
			for _, tried := range connections {
				if s.connects(tried.from, tried.to, tried.protocol, tried.port) != want {
					t.Errorf("%s: %+v passes: %v", c.name, tried, !want)
				}
			}
		}
	}
}

const closed = `{podSelector: {}, policyTypes: [Ingress]}`

func TestPodsOnTheNetworkOfTheNodeAndThoseThatEndedAreNotConcerned(t *testing.T) {
	onNode, ended, unplaced := runningPod("shop", "198.18.0.1", ""), runningPod("shop", client, ""), runningPod("shop", "", "")
	onNode.Spec.HostNetwork = true
	ended.Status.Phase = core.PodSucceeded
	unplaced.Spec.NodeName = ""
	s := snapshotOf(t, []*core.Pod{onNode, ended, unplaced}, closed)
	if isolated := s.isolated(ingress); len(isolated) > 0 || s.awaited(ingress) {
		t.Errorf("isolated are %v; awaited: %v", isolated, s.awaited(ingress))
	}
}

func TestPortOfASidecarCounts(t *testing.T) {
	pod := runningPod("shop", server, "server")
	always := core.ContainerRestartPolicyAlways
	pod.Spec.InitContainers = []core.Container{
		{Name: "sidecar", RestartPolicy: &always, Ports: []core.ContainerPort{{Name: "metrics", ContainerPort: 9121}}},
		{Name: "init", Ports: []core.ContainerPort{{Name: "metrics", ContainerPort: 1}}},
	}
	s := snapshotOf(t, []*core.Pod{pod}, `{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: metrics}]}]}`)
	if !s.connects(client, server, core.ProtocolTCP, 9121) || s.connects(client, server, core.ProtocolTCP, 1) {
		t.Errorf("got %+v", s.isolated(ingress))
	}
}

func TestPodIsIsolatedBeforeItsAddressIsKnown(t *testing.T) {
	starting := runningPod("shop", "", "starting")
	policy := `{podSelector: {matchLabels: {app: starting}}, policyTypes: [Ingress]}`
	unknown := "ip daddr 198.18.0.0/17 ip daddr != { 198.18.0.10, 198.18.0.11, 198.18.0.12, 198.18.0.13 } drop\n"
	if rules := snapshotOf(t, append(pods(), starting), policy).ruleset(); !strings.Contains(rules, unknown) {
		t.Errorf("it is not isolated:\n%s", rules)
	}
	starting.Status.PodIP = "198.18.0.14"
	rules := snapshotOf(t, append(pods(), starting), policy).ruleset()
	if strings.Contains(rules, "198.18.0.0/17") || !strings.Contains(rules, "198.18.0.14 : jump ingress-198.18.0.14") {
		t.Errorf("its address is known, and the rules are\n%s", rules)
	}
}

func TestRulesAreThoseOfNftables(t *testing.T) {
	s := snapshotOf(t, pods(),
		`{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: client}}}, {ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/29]}}], ports: [{port: redis}, {protocol: SCTP}]}]}`,
		`{podSelector: {matchLabels: {app: stranger}}, policyTypes: [Egress]}`)
	want := `table ip network-policies
delete table ip network-policies
table ip network-policies {
	chain egress-198.18.0.12 {
		ip daddr { 198.18.0.12/32 } return
		drop
	}
	chain ingress-198.18.0.10 {
		ip saddr { 198.18.0.10/32 } return
		ip saddr { 203.0.113.0/24 } ip saddr != { 203.0.113.0/29 } tcp dport 6379-6379 return
		ip saddr { 198.18.0.11/32, 198.18.0.13/32 } tcp dport 6379-6379 return
		ip saddr { 203.0.113.0/24 } ip saddr != { 203.0.113.0/29 } meta l4proto sctp return
		ip saddr { 198.18.0.11/32, 198.18.0.13/32 } meta l4proto sctp return
		drop
	}
	chain forward {
		type filter hook forward priority filter
		ct state established,related accept
		ip saddr vmap { 198.18.0.12 : jump egress-198.18.0.12 }
		ip daddr vmap { 198.18.0.10 : jump ingress-198.18.0.10 }
	}
}
`
	if got := s.ruleset(); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestOrderOfTheListsMakesNoOtherRules(t *testing.T) {
	policies := []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}}]}]}`, closed}
	reversed := pods()
	slices.Reverse(reversed)
	if one, other := snapshotOf(t, pods(), policies...).ruleset(), snapshotOf(t, reversed, policies...).ruleset(); one != other {
		t.Errorf("one order gives\n%s\nthe other\n%s", one, other)
	}
}
