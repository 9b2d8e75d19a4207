package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// table is the one that this program writes, and nobody else.
const table = "network-policies"

// snapshot is what the rules follow from.
type snapshot struct {
	policies   []*networking.NetworkPolicy
	pods       []pod
	namespaces map[string]labels.Set // their labels, by name
	podRange   netip.Prefix          // which addresses pods get
}

// newSnapshot sorts: the lists come in any order, and equal ones are to give
// equal rules.
func newSnapshot(policies []*networking.NetworkPolicy, pods []*core.Pod, namespaces []*core.Namespace, podRange netip.Prefix) snapshot {
	s := snapshot{policies: policies, namespaces: map[string]labels.Set{}, podRange: podRange}
	slices.SortFunc(s.policies, func(a, b *networking.NetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, from := range pods {
		if pod, concerned := podOf(from); concerned {
			s.pods = append(s.pods, pod)
		}
	}
	slices.SortFunc(s.pods, func(a, b pod) int { return a.address.Compare(b.address) })
	for _, namespace := range namespaces {
		s.namespaces[namespace.Name] = namespace.Labels
	}
	return s
}

// pod is what policies tell pods by.
type pod struct {
	namespace string
	labels    labels.Set
	address   netip.Addr // not valid before the pod has one
	ports     []core.ContainerPort
}

// podOf gives nothing for a pod that has no network of its own, or none yet
// to come, or no longer: policies do not hold for it, and do not mean it.
func podOf(from *core.Pod) (pod, bool) {
	ended := from.Status.Phase == core.PodSucceeded || from.Status.Phase == core.PodFailed
	if from.Spec.HostNetwork || from.Spec.NodeName == "" || ended {
		return pod{}, false
	}
	address, _ := netip.ParseAddr(from.Status.PodIP)
	var ports []core.ContainerPort
	for _, container := range from.Spec.Containers {
		ports = append(ports, container.Ports...)
	}
	for _, container := range from.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == core.ContainerRestartPolicyAlways {
			ports = append(ports, container.Ports...)
		}
	}
	return pod{from.Namespace, from.Labels, address, ports}, true
}

// direction is one of the two in which a policy may isolate a pod.
type direction struct {
	kind      networking.PolicyType
	name      string
	own, peer string // the fields of a packet with these addresses
}

var (
	ingress    = direction{networking.PolicyTypeIngress, "ingress", "ip daddr", "ip saddr"}
	egress     = direction{networking.PolicyTypeEgress, "egress", "ip saddr", "ip daddr"}
	directions = []direction{egress, ingress}
)

// rule allows connections with any of the peers, to any of the ports.
type rule struct {
	peers  []netip.Prefix // none of them: anybody
	except []netip.Prefix
	ports  ports
}

// ports are all when there is no protocol, and all of the protocol when the
// first is 0.
type ports struct {
	protocol    core.Protocol
	first, last int32
}

// isolated gives, for each pod that a policy isolates in this direction, what
// it may do all the same.
func (s snapshot) isolated(d direction) map[netip.Addr][]rule {
	isolated := map[netip.Addr][]rule{}
	for _, policy := range s.policies {
		// The API server fills in the types that a policy leaves out.
		if !slices.Contains(policy.Spec.PolicyTypes, d.kind) {
			continue
		}
		for _, own := range s.selectedBy(policy) {
			if !own.address.IsValid() {
				continue
			}
			if isolated[own.address] == nil {
				// No policy keeps a pod from itself.
				isolated[own.address] = []rule{{peers: []netip.Prefix{alone(own.address)}}}
			}
			isolated[own.address] = append(isolated[own.address], s.rules(d, policy, own)...)
		}
	}
	return isolated
}

// awaited tells whether a pod that will be isolated has no address so far.
func (s snapshot) awaited(d direction) bool {
	return slices.ContainsFunc(s.policies, func(policy *networking.NetworkPolicy) bool {
		return slices.Contains(policy.Spec.PolicyTypes, d.kind) &&
			slices.ContainsFunc(s.selectedBy(policy), func(own pod) bool { return !own.address.IsValid() })
	})
}

func (s snapshot) selectedBy(policy *networking.NetworkPolicy) []pod {
	return s.podsOf(policy.Namespace, networking.NetworkPolicyPeer{PodSelector: &policy.Spec.PodSelector})
}

// rules are what one policy lets one of its pods do in one direction.
func (s snapshot) rules(d direction, policy *networking.NetworkPolicy, own pod) []rule {
	var rules []rule
	if d == ingress {
		for _, allowed := range policy.Spec.Ingress {
			rules = append(rules, s.allowed(d, policy.Namespace, allowed.From, allowed.Ports, own)...)
		}
		return rules
	}
	for _, allowed := range policy.Spec.Egress {
		rules = append(rules, s.allowed(d, policy.Namespace, allowed.To, allowed.Ports, own)...)
	}
	return rules
}

func (s snapshot) allowed(d direction, namespace string, peers []networking.NetworkPolicyPeer, wanted []networking.NetworkPolicyPort, own pod) []rule {
	among := s.peers(namespace, peers)
	if len(wanted) == 0 {
		return among
	}
	var rules []rule
	for _, port := range wanted {
		if d == egress && isNamed(port) {
			// Each pod that is called has a port of that name of its own, or none.
			for _, peer := range s.podsOfAny(namespace, peers) {
				if found, known := portsOf(port, peer); known && peer.address.IsValid() {
					rules = append(rules, rule{peers: []netip.Prefix{alone(peer.address)}, ports: found})
				}
			}
			continue
		}
		if found, known := portsOf(port, own); known {
			for _, rule := range among {
				rule.ports = found
				rules = append(rules, rule)
			}
		}
	}
	return rules
}

// peers gives a rule for all pods that are meant, and one for each block of
// addresses; no peers at all mean anybody.
func (s snapshot) peers(namespace string, peers []networking.NetworkPolicyPeer) []rule {
	if len(peers) == 0 {
		return []rule{{}}
	}
	var rules []rule
	var addresses []netip.Prefix
	for _, peer := range peers {
		if peer.IPBlock != nil {
			rules = append(rules, block(peer.IPBlock)...)
			continue
		}
		for _, pod := range s.podsOf(namespace, peer) {
			if pod.address.IsValid() {
				addresses = append(addresses, alone(pod.address))
			}
		}
	}
	if len(addresses) > 0 {
		slices.SortFunc(addresses, netip.Prefix.Compare)
		rules = append(rules, rule{peers: slices.Compact(addresses)})
	}
	return rules
}

// block leaves out what is not of IPv4: nothing here has another address.
func block(from *networking.IPBlock) []rule {
	whole := prefixes(from.CIDR)
	if len(whole) == 0 {
		return nil
	}
	return []rule{{peers: whole, except: prefixes(from.Except...)}}
}

func prefixes(texts ...string) []netip.Prefix {
	var found []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err == nil && prefix.Addr().Is4() {
			found = append(found, prefix.Masked())
		}
	}
	return found
}

// podsOfAny gives the pods that any of the peers means; no peers at all mean
// every pod.
func (s snapshot) podsOfAny(namespace string, peers []networking.NetworkPolicyPeer) []pod {
	if len(peers) == 0 {
		return s.pods
	}
	var found []pod
	for _, peer := range peers {
		if peer.IPBlock == nil {
			found = append(found, s.podsOf(namespace, peer)...)
		}
	}
	return found
}

// podsOf gives the pods that a peer means: of the policy's own namespace,
// unless it selects others.
func (s snapshot) podsOf(namespace string, peer networking.NetworkPolicyPeer) []pod {
	isMeant := func(name string) bool { return name == namespace }
	if peer.NamespaceSelector != nil {
		selector := selectorOf(peer.NamespaceSelector)
		isMeant = func(name string) bool { return selector.Matches(s.namespaces[name]) }
	}
	selector := labels.Everything()
	if peer.PodSelector != nil {
		selector = selectorOf(peer.PodSelector)
	}
	var found []pod
	for _, pod := range s.pods {
		if isMeant(pod.namespace) && selector.Matches(pod.labels) {
			found = append(found, pod)
		}
	}
	return found
}

func selectorOf(from *meta.LabelSelector) labels.Selector {
	selector, err := meta.LabelSelectorAsSelector(from)
	if err != nil {
		panic(fmt.Sprintf("the API server let an invalid selector pass: %v", err))
	}
	return selector
}

func isNamed(port networking.NetworkPolicyPort) bool {
	return port.Port != nil && port.Port.Type == intstr.String
}

// portsOf gives the ports that are meant on a pod. It may have none of that
// name.
func portsOf(wanted networking.NetworkPolicyPort, target pod) (found ports, known bool) {
	protocol := core.ProtocolTCP
	if wanted.Protocol != nil {
		protocol = *wanted.Protocol
	}
	if wanted.Port == nil {
		return ports{protocol: protocol}, true
	}
	if !isNamed(wanted) {
		first := wanted.Port.IntVal
		last := first
		if wanted.EndPort != nil {
			last = *wanted.EndPort
		}
		return ports{protocol, first, last}, true
	}
	at := slices.IndexFunc(target.ports, func(port core.ContainerPort) bool {
		return port.Name == wanted.Port.StrVal && cmp.Or(port.Protocol, core.ProtocolTCP) == protocol
	})
	if at < 0 {
		return ports{}, false
	}
	number := target.ports[at].ContainerPort
	return ports{protocol, number, number}, true
}

func alone(address netip.Addr) netip.Prefix { return netip.PrefixFrom(address, address.BitLen()) }

// ruleset is the whole table as `nft -f` reads it, in place of the one that is
// there. What has been let in once is not asked again, and replies are part of it.
func (s snapshot) ruleset() string {
	var text strings.Builder
	fmt.Fprintf(&text, "table ip %[1]s\ndelete table ip %[1]s\ntable ip %[1]s {\n", table)
	forward := []string{"type filter hook forward priority filter", "ct state established,related accept"}
	for _, d := range directions {
		if s.awaited(d) {
			// From its first moment on, a pod is as isolated as it will be. Until
			// its address is known, it may have any that is not known.
			forward = append(forward, d.own+" "+s.podRange.String()+s.knownAddresses(d.own)+" drop")
		}
		isolated := s.isolated(d)
		var jumps []string
		for _, address := range slices.SortedFunc(maps.Keys(isolated), netip.Addr.Compare) {
			chain := d.name + "-" + address.String()
			jumps = append(jumps, address.String()+" : jump "+chain)
			var lines []string
			for _, rule := range isolated[address] {
				lines = append(lines, rule.text(d.peer)+"return")
			}
			writeChain(&text, chain, append(lines, "drop"))
		}
		if len(jumps) > 0 {
			forward = append(forward, d.own+" vmap { "+strings.Join(jumps, ", ")+" }")
		}
	}
	writeChain(&text, "forward", forward)
	text.WriteString("}\n")
	return text.String()
}

func writeChain(text *strings.Builder, name string, lines []string) {
	fmt.Fprintf(text, "\tchain %s {\n\t\t%s\n\t}\n", name, strings.Join(lines, "\n\t\t"))
}

// knownAddresses leaves out those that pods have; field holds the address.
func (s snapshot) knownAddresses(field string) string {
	var known []string
	for _, pod := range s.pods {
		if pod.address.IsValid() {
			known = append(known, pod.address.String())
		}
	}
	if len(known) == 0 {
		return ""
	}
	slices.Sort(known)
	return " " + field + " != { " + strings.Join(slices.Compact(known), ", ") + " }"
}

// text is what a packet has to be like; it ends in a space unless it is empty.
func (r rule) text(peer string) string {
	var text strings.Builder
	if len(r.peers) > 0 {
		fmt.Fprintf(&text, "%s { %s } ", peer, join(r.peers))
	}
	if len(r.except) > 0 {
		fmt.Fprintf(&text, "%s != { %s } ", peer, join(r.except))
	}
	protocol := strings.ToLower(string(r.ports.protocol))
	switch {
	case protocol == "":
	case r.ports.first == 0:
		fmt.Fprintf(&text, "meta l4proto %s ", protocol)
	default:
		fmt.Fprintf(&text, "%s dport %d-%d ", protocol, r.ports.first, r.ports.last)
	}
	return text.String()
}

func join(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ", ")
}
