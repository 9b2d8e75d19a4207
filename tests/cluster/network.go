package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
)

// All addresses come from 198.18.0.0/15, the range set aside for tests, so
// that none can clash with a network that the machine is on.
const (
	clusterRange = "198.18.0.0/16" // pods and services, as one route
	podRange     = "198.18.0.0/17"
	serviceRange = "198.18.128.0/17"

	nodeAddress         = "198.18.0.1" // the node, and each part of the cluster
	nodeNetwork         = nodeAddress + "/17"
	firstServiceAddress = "198.18.128.1" // the API server as pods call it
	dnsAddress          = "198.18.128.10"

	// The two ends of the cable between the machine and the node.
	machineEnd  = "198.19.0.1"
	nodeEnd     = "198.19.0.2"
	machineLink = "cachedservice0"
	nodeLink    = "uplink"

	bridge = "cni0"
)

// setUpNodeNetwork runs inside the node. It has no default route: what a pod
// sends beyond the cluster and the machine is refused at once.
func setUpNodeNetwork() error {
	for _, command := range []string{
		"link set lo up",
		// A bridge takes the lowest address of its ports, and pods would lose the
		// gateway whenever it changes; a set one stays.
		"link add " + bridge + " address 02:c5:00:00:00:01 type bridge",
		"address add " + nodeNetwork + " dev " + bridge,
		"link set " + bridge + " up",
		// Service addresses are on no network: they are rewritten on their way
		// out, and need a way out to begin with.
		"route add " + serviceRange + " dev " + bridge,
	} {
		if err := ip(command); err != nil {
			return err
		}
	}
	for _, setting := range []string{
		"ipv4/ip_forward",
		// Replies between two pods pass the bridge alone; without this they miss
		// the rules that turn a pod's address back into the Service's.
		"bridge/bridge-nf-call-iptables",
	} {
		if err := os.WriteFile("/proc/sys/net/"+setting, []byte("1"), 0); err != nil {
			return fmt.Errorf("set net/%s: %w", setting, err)
		}
	}
	return nil
}

// connectNode lays the cable between the machine and the node.
func (c *Cluster) connectNode(init Process) error {
	if _, err := net.InterfaceByName(machineLink); err == nil {
		return nil
	}
	if err := ip(fmt.Sprintf("link add %s type veth peer name %s netns %d", machineLink, nodeLink, init.PID)); err != nil {
		return err
	}
	err := errors.Join(
		c.inside(init, func() error {
			return errors.Join(ip("address add "+nodeEnd+"/30 dev "+nodeLink), ip("link set "+nodeLink+" up"))
		}),
		ip("address add "+machineEnd+"/30 dev "+machineLink),
		ip("link set "+machineLink+" up"),
		ip("route add "+clusterRange+" via "+nodeEnd))
	if err != nil {
		disconnectNode()
	}
	return err
}

// disconnectNode takes the cable away; its route and its other end go with it.
func disconnectNode() error {
	if _, err := net.InterfaceByName(machineLink); err != nil {
		return nil
	}
	err := ip("link delete " + machineLink)
	// The kernel takes it away by itself when the node's network is gone.
	if _, gone := net.InterfaceByName(machineLink); gone != nil {
		return nil
	}
	return err
}

func ip(arguments string) error {
	output, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", arguments, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// addressesTaken names an interface of the machine that uses the cluster's range.
func addressesTaken() (string, error) {
	_, cluster, _ := net.ParseCIDR("198.18.0.0/15")
	interfaces, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, i := range interfaces {
		if i.Name == machineLink {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return "", err
		}
		for _, address := range addresses {
			if own, ok := address.(*net.IPNet); ok && cluster.Contains(own.IP) {
				return i.Name, nil
			}
		}
	}
	return "", nil
}
