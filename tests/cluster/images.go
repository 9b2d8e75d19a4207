package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"
)

// importLimit is for an image of gigabytes on a machine that is busy.
const importLimit = 5 * time.Minute

// pauseImage is the image of the container that holds a pod's namespaces.
const pauseImage = "cachedservice.dev/pause:1"

// Registry is where the node looks for a registry without TLS: pods and the node
// reach nothing of the machine but its end of the cable.
func (c *Cluster) Registry() string { return net.JoinHostPort(c.Net().machineEnd, "5000") }

// loadImage reads an archive as `buildah push … docker-archive:` writes it
// into the node's image store.
func (c *Cluster) loadImage(ctx context.Context, init Process, archive io.Reader) error {
	argv := []string{c.bin("ctr"), "--namespace=k8s.io", "images", "import", "-"}
	err := c.inside(init, func() error {
		_, err := command{argv: argv, limit: importLimit, stdin: archive}.run(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("import the image: %w", err)
	}
	return nil
}

// loadPause makes the pause image of the program and loads it.
func (c *Cluster) loadPause(ctx context.Context, init Process) error {
	program, err := os.ReadFile(c.bin("pause"))
	if err != nil {
		return err
	}
	archive, err := imageArchive(pauseImage, "pause", program)
	if err != nil {
		return err
	}
	return c.loadImage(ctx, init, bytes.NewReader(archive))
}

// imageArchive makes a docker-archive of an image with a single program.
func imageArchive(tag, name string, program []byte) ([]byte, error) {
	layer, err := tarOf(tarFile{name, 0o755, program})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{"/" + name}, "User": "65535:65535"},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{tag}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return nil, err
	}
	return tarOf(
		tarFile{configName, 0o644, config}, tarFile{"layer.tar", 0o644, layer}, tarFile{"manifest.json", 0o644, manifest})
}

type tarFile struct {
	name string
	mode int64
	data []byte
}

func tarOf(files ...tarFile) ([]byte, error) {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, file := range files {
		if err := archive.WriteHeader(&tar.Header{Name: file.name, Mode: file.mode, Size: int64(len(file.data))}); err != nil {
			return nil, err
		}
		if _, err := archive.Write(file.data); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
