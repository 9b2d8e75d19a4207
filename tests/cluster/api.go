package main

import (
	"bytes"
	"context"
	"crypto/tls"
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
