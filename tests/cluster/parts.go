package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// part is one process of a cluster.
type part struct {
	name   string
	after  []string // what has to be healthy before it starts
	argv   []string
	health string // an address that answers 200, or a socket that accepts
}

// parts lists the processes of the cluster, in the order to look at them.
func (c *Cluster) parts() []part {
	parts := []part{c.etcd(), c.apiserver(), c.controllerManager()}
	switch c.Mode {
	case ControlPlane:
		// Without a node a scheduler could only call every pod unschedulable.
		return parts
	case Scale:
		return append(parts, c.scheduler(), c.kwok())
	default:
		return append(parts, c.scheduler(), c.containerd(), c.kubelet(), c.proxy(), c.networkPolicies(), c.coredns(), c.metricsServer())
	}
}

// part finds a process by its name, with or without Kubernetes' own prefix.
func (c *Cluster) part(name string) (part, error) {
	parts := c.parts()
	wanted := strings.TrimPrefix(name, "kube-")
	at := slices.IndexFunc(parts, func(p part) bool { return p.name == wanted })
	if at < 0 {
		names := make([]string, len(parts))
		for i, p := range parts {
			names[i] = p.name
		}
		return part{}, fmt.Errorf("cluster %s has no part %q; it has %s", c.Name, name, strings.Join(names, ", "))
	}
	return parts[at], nil
}

func (c *Cluster) bin(name string) string    { return c.path("bin", name) }
func (c *Cluster) config(name string) string { return c.path("config", name) }

func (c *Cluster) etcd() part {
	client, peer := "https://"+c.at("etcd"), fmt.Sprintf("http://127.0.0.1:%d", c.Ports["etcd-peer"])
	return part{
		name: "etcd",
		argv: []string{
			c.bin("etcd"),
			"--name=" + c.Name,
			"--data-dir=" + c.path("etcd"),
			"--listen-client-urls=" + client,
			"--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer,
			"--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=" + c.Name + "=" + peer,
			"--cert-file=" + c.certPath("server"),
			"--key-file=" + c.keyPath("server"),
			"--trusted-ca-file=" + c.certPath("ca"),
			"--client-cert-auth",
			// A power cut may take the data; a killed process does not.
			"--unsafe-no-fsync",
			"--log-level=warn",
		},
		health: client + "/readyz",
	}
}

func (c *Cluster) apiserver() part {
	argv := []string{
		c.bin("kube-apiserver"),
		"--bind-address=" + c.Address,
		"--advertise-address=" + c.Address,
		fmt.Sprintf("--secure-port=%d", c.Ports["apiserver"]),
		"--tls-cert-file=" + c.certPath("server"),
		"--tls-private-key-file=" + c.keyPath("server"),
		"--client-ca-file=" + c.certPath("ca"),
		"--etcd-servers=https://" + c.at("etcd"),
		"--etcd-cafile=" + c.certPath("ca"),
		"--etcd-certfile=" + c.certPath("apiserver-client"),
		"--etcd-keyfile=" + c.keyPath("apiserver-client"),
		"--service-cluster-ip-range=" + c.Net().Services,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.keyPath("service-account"),
		"--service-account-signing-key-file=" + c.keyPath("service-account"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--enable-aggregator-routing=true",
		"--requestheader-client-ca-file=" + c.certPath("front-proxy-ca"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.certPath("front-proxy-client"),
		"--proxy-client-key-file=" + c.keyPath("front-proxy-client"),
		"--kubelet-certificate-authority=" + c.certPath("ca"),
		"--kubelet-client-certificate=" + c.certPath("apiserver-client"),
		"--kubelet-client-key=" + c.keyPath("apiserver-client"),
		"--kubelet-preferred-address-types=InternalIP",
	}
	if c.Mode != Full {
		// An endpoint may not be on loopback, and no pod would call it there.
		argv = append(argv, "--endpoint-reconciler-type=none")
	}
	if c.Audit {
		argv = append(argv,
			"--audit-policy-file="+c.config("audit-policy.yaml"),
			"--audit-log-path="+c.auditLog(),
			"--audit-log-format=json",
			// In megabytes; left out, it would begin a new file after 100.
			"--audit-log-maxsize=1000000")
	}
	return part{name: "apiserver", after: []string{"etcd"}, argv: argv, health: "https://" + c.at("apiserver") + "/readyz"}
}

func (c *Cluster) controllerManager() part {
	argv := []string{
		c.bin("kube-controller-manager"),
		"--kubeconfig=" + c.kubeconfig("controller-manager"),
		"--authentication-kubeconfig=" + c.kubeconfig("controller-manager"),
		"--authorization-kubeconfig=" + c.kubeconfig("controller-manager"),
		"--bind-address=" + c.Address,
		fmt.Sprintf("--secure-port=%d", c.Ports["controller-manager"]),
		"--tls-cert-file=" + c.certPath("server"),
		"--tls-private-key-file=" + c.keyPath("server"),
		"--root-ca-file=" + c.certPath("ca"),
		"--cluster-signing-cert-file=" + c.certPath("ca"),
		"--cluster-signing-key-file=" + c.keyPath("ca"),
		"--service-account-private-key-file=" + c.keyPath("service-account"),
		"--use-service-account-credentials=true",
		"--leader-elect=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		// It makes this folder, by default one of the machine's.
		"--flex-volume-plugin-dir=" + c.path("volume-plugins"),
		// Scaling is to be seen in seconds, not in minutes.
		"--horizontal-pod-autoscaler-sync-period=5s",
		"--horizontal-pod-autoscaler-cpu-initialization-period=20s",
		"--horizontal-pod-autoscaler-initial-readiness-delay=5s",
	}
	if c.Mode == Scale {
		// Under load, kwok reports late. A fake node that is taken for lost
		// makes its pods unready, and a measurement never comes to its end.
		argv = append(argv, "--node-monitor-grace-period=3600s")
	}
	return part{name: "controller-manager", after: []string{"apiserver"}, argv: argv, health: "https://" + c.at("controller-manager") + "/healthz"}
}

func (c *Cluster) scheduler() part {
	return part{
		name:  "scheduler",
		after: []string{"apiserver"},
		argv: []string{
			c.bin("kube-scheduler"),
			"--kubeconfig=" + c.kubeconfig("scheduler"),
			"--authentication-kubeconfig=" + c.kubeconfig("scheduler"),
			"--authorization-kubeconfig=" + c.kubeconfig("scheduler"),
			"--bind-address=" + c.Address,
			fmt.Sprintf("--secure-port=%d", c.Ports["scheduler"]),
			"--tls-cert-file=" + c.certPath("server"),
			"--tls-private-key-file=" + c.keyPath("server"),
			"--leader-elect=false",
			"--kube-api-qps=500",
			"--kube-api-burst=1000",
		},
		health: "https://" + c.at("scheduler") + "/healthz",
	}
}

func (c *Cluster) containerd() part {
	return part{
		name:   "containerd",
		argv:   []string{c.bin("containerd"), "--config=" + c.config("containerd.toml"), "--log-level=warn"},
		health: "unix:" + c.nodePath("/run/containerd/containerd.sock"),
	}
}

func (c *Cluster) kubelet() part {
	return part{
		name:  "kubelet",
		after: []string{"apiserver", "containerd", pauseStep},
		argv: []string{
			c.bin("kubelet"),
			"--config=" + c.config("kubelet.yaml"),
			"--kubeconfig=" + c.kubeconfig("kubelet"),
			"--hostname-override=" + c.NodeName(),
			"--node-ip=" + c.Address,
		},
		health: fmt.Sprintf("http://%s/healthz", c.at("kubelet-health")),
	}
}

func (c *Cluster) proxy() part {
	return part{
		name:   "proxy",
		after:  []string{"apiserver"},
		argv:   []string{c.bin("kube-proxy"), "--config=" + c.config("proxy.yaml")},
		health: fmt.Sprintf("http://%s/livez", c.at("proxy-health")),
	}
}

func (c *Cluster) networkPolicies() part {
	return part{
		name:  "network-policies",
		after: []string{manifestsStep},
		argv: []string{
			c.bin("network-policies"),
			"-kubeconfig=" + c.kubeconfig("network-policies"),
			"-pod-range=" + c.Net().Pods,
			"-health-address=" + c.at("network-policies"),
		},
		health: fmt.Sprintf("http://%s/healthz", c.at("network-policies")),
	}
}

func (c *Cluster) coredns() part {
	return part{
		name:   "coredns",
		after:  []string{manifestsStep},
		argv:   []string{c.bin("coredns"), "-conf", c.config("Corefile")},
		health: fmt.Sprintf("http://%s/ready", c.at("coredns-ready")),
	}
}

func (c *Cluster) metricsServer() part {
	return part{
		name:  "metrics-server",
		after: []string{manifestsStep},
		argv: []string{
			c.bin("metrics-server"),
			"--kubeconfig=" + c.kubeconfig("metrics-server"),
			"--authentication-kubeconfig=" + c.kubeconfig("metrics-server"),
			"--authorization-kubeconfig=" + c.kubeconfig("metrics-server"),
			"--bind-address=" + c.Address,
			fmt.Sprintf("--secure-port=%d", c.Ports["metrics-server"]),
			"--tls-cert-file=" + c.certPath("server"),
			"--tls-private-key-file=" + c.keyPath("server"),
			"--kubelet-certificate-authority=" + c.certPath("ca"),
			"--kubelet-preferred-address-types=InternalIP",
			"--metric-resolution=10s",
			// It has to be the smaller of the two.
			"--kubelet-request-timeout=5s",
		},
		health: "https://" + c.at("metrics-server") + "/livez",
	}
}

func (c *Cluster) kwok() part {
	return part{
		name:  "kwok",
		after: []string{manifestsStep},
		argv: []string{
			c.bin("kwok"),
			"--kubeconfig=" + c.kubeconfig("kwok"),
			"--config=" + c.config("kwok.yaml"),
			"--config=" + filepath.Join(c.path("bin"), kwokStagesFile),
			"--server-address=" + c.at("kwok"),
		},
		health: fmt.Sprintf("http://%s/healthz", c.at("kwok")),
	}
}
