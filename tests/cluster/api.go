package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// kubectlLimit is for as many objects as the tool applies at once: a thousand
// nodes.
const kubectlLimit = 3 * time.Minute

// httpClient makes the tool's own requests, as the API server would make them.
func (c *Cluster) httpClient() (*http.Client, error) {
	trusted, err := c.trust()
	if err != nil {
		return nil, err
	}
	own, err := tls.LoadX509KeyPair(c.certPath("apiserver-client"), c.keyPath("apiserver-client"))
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout: probeLimit,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{own}},
			// Each answer is to show that the part still accepts connections.
			DisableKeepAlives: true,
		},
	}, nil
}

// probe asks a part for its health.
func (c *Cluster) probe(ctx context.Context, p part) error {
	if socket, ok := strings.CutPrefix(p.health, "unix:"); ok {
		connection, err := (&net.Dialer{Timeout: probeLimit}).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return connection.Close()
	}
	_, err := c.fetch(ctx, p.health)
	return err
}

func (c *Cluster) fetch(ctx context.Context, url string) ([]byte, error) {
	client, err := c.httpClient()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s: %.300s", url, response.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

// apply sends a manifest to the API server.
func (c *Cluster) apply(ctx context.Context, name string) error {
	manifest, err := c.render(name)
	if err != nil {
		return err
	}
	err = c.kubectl(ctx, bytes.NewReader(manifest),
		"apply", "--server-side", "--force-conflicts", "--field-manager=cluster", "--filename=-")
	if err != nil {
		return fmt.Errorf("apply %s: %w", name, err)
	}
	return nil
}

func (c *Cluster) kubectl(ctx context.Context, stdin io.Reader, arguments ...string) error {
	argv := append([]string{c.bin("kubectl"), "--kubeconfig=" + c.kubeconfig("admin")}, arguments...)
	_, err := command{argv: argv, limit: kubectlLimit, stdin: stdin}.run(ctx)
	return err
}

// nodesReady says which node pods cannot be placed on yet.
func (c *Cluster) nodesReady(ctx context.Context) error {
	data, err := c.fetch(ctx, "https://"+c.at("apiserver")+"/api/v1/nodes")
	if err != nil {
		return err
	}
	wanted := c.fakeNodes()
	if c.Mode == Full {
		wanted = []string{c.NodeName()}
	}
	return readyAmong(data, wanted)
}

func readyAmong(data []byte, wanted []string) error {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ Taints []struct{ Key string } }
			Status   struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	why := map[string]string{}
	for _, name := range wanted {
		why[name] = "it has not registered"
	}
	for _, node := range list.Items {
		if _, ours := why[node.Metadata.Name]; !ours {
			continue
		}
		reason := "it has reported no Ready condition"
		for _, condition := range node.Status.Conditions {
			if condition.Type != "Ready" {
				continue
			}
			reason = ""
			if condition.Status != "True" {
				reason = "it says " + condition.Message
			}
		}
		for _, taint := range node.Spec.Taints {
			if taint.Key == "node.kubernetes.io/not-ready" {
				reason = "it still has the taint " + taint.Key
			}
		}
		if reason == "" {
			delete(why, node.Metadata.Name)
		} else {
			why[node.Metadata.Name] = reason
		}
	}
	for _, name := range wanted {
		if reason, waiting := why[name]; waiting {
			return fmt.Errorf("node %s is not ready: %s", name, reason)
		}
	}
	return nil
}
