package main

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"os"
	"text/template"
)

//go:embed templates manifests
var texts embed.FS

var templates = template.Must(template.New("").Option("missingkey=error").ParseFS(texts, "templates/*", "manifests/*"))

// Debian's package puts the plugins here.
const cniPlugins = "/usr/lib/cni"

// view is what a template sees.
type view struct {
	*Cluster
	Bridge, CNIPlugins, PauseImage, CABundle string
	FakeNodes                                []string
}

// configFiles are the templates that each mode uses, and where they go.
func (c *Cluster) configFiles() map[string]string {
	files := map[string]string{"audit-policy.yaml": "audit-policy.yaml"}
	switch c.Mode {
	case Full:
		for _, name := range []string{"kubelet.yaml", "proxy.yaml", "containerd.toml", "Corefile"} {
			files[name] = name
		}
		files["cni.conflist"] = "cni/10-pods.conflist"
		files["hosts.toml"] = "registries/" + c.Registry() + "/hosts.toml"
	case Scale:
		files["kwok.yaml"] = "kwok.yaml"
	}
	return files
}

func (c *Cluster) writeConfig() error {
	for name, target := range c.configFiles() {
		text, err := c.render(name)
		if err != nil {
			return err
		}
		if err := writeFile(c.config(target), text); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) render(name string) ([]byte, error) {
	ca, err := os.ReadFile(c.certPath("ca"))
	if err != nil {
		return nil, err
	}
	seen := view{
		Cluster:    c,
		Bridge:     bridge,
		CNIPlugins: cniPlugins,
		PauseImage: pauseImage,
		CABundle:   base64.StdEncoding.EncodeToString(ca),
		FakeNodes:  c.fakeNodes(),
	}
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, seen); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", name, err)
	}
	return text.Bytes(), nil
}

func (c *Cluster) fakeNodes() []string {
	names := make([]string, c.Nodes)
	for i := range names {
		names[i] = fmt.Sprintf("fake-%d", i+1)
	}
	return names
}
