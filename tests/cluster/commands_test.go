package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Of two entries of one name, a Go program takes the first and a shell the last: there must be one.
func TestProgramsActOnTheClusterAndNotOnThatOfTheUser(t *testing.T) {
	t.Setenv("KUBECONFIG", "/home/user/.kube/config")
	t.Setenv("HELM_KUBEAPISERVER", "https://production.example.com")
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("HELM_CACHE_HOME", "/home/user/.cache/helm")
	c := newTestCluster(t, ControlPlane)
	var found []string
	for _, entry := range c.environment() {
		name, _, _ := strings.Cut(entry, "=")
		if slices.Contains([]string{"KUBECONFIG", "HELM_KUBEAPISERVER", "KUBERNETES_SERVICE_HOST", "HELM_CACHE_HOME"}, name) {
			found = append(found, entry)
		}
	}
	slices.Sort(found)
	want := []string{"HELM_CACHE_HOME=/home/user/.cache/helm", "KUBECONFIG=" + c.kubeconfig("admin")}
	if !slices.Equal(found, want) {
		t.Errorf("got %q, want %q", found, want)
	}
}

func TestHelmWithoutAClusterGetsNone(t *testing.T) {
	t.Setenv("CACHEDSERVICE_STATE", t.TempDir())
	t.Setenv("KUBECONFIG", "/home/user/.kube/config")
	environment, err := helmEnvironment("")
	if err != nil || !slices.Contains(environment, "KUBECONFIG=/dev/null") {
		t.Errorf("got %q, %v; want KUBECONFIG=/dev/null", environment, err)
	}
}

func TestHelmIsNotRunWithoutTheClusterThatWasNamed(t *testing.T) {
	t.Setenv("CACHEDSERVICE_STATE", t.TempDir())
	if _, err := helmEnvironment("mine"); !errors.Is(err, errNoCluster) {
		t.Errorf("got %v, want %v", err, errNoCluster)
	}
}

func TestHelmIsNotRunWhenTheUsualClusterCannotBeRead(t *testing.T) {
	t.Setenv("CACHEDSERVICE_STATE", t.TempDir())
	if err := writeFile(filepath.Join(stateRoot(), string(Full), "cluster.json"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := helmEnvironment(""); err == nil {
		t.Error("it runs without the cluster that is there")
	}
}

func TestEverythingIsBuiltThatAModeRunsOrThatIsNamed(t *testing.T) {
	for _, test := range []struct {
		mode        Mode
		named, want string
	}{
		{"", "helm ctr", "helm ctr"},
		{ControlPlane, "", "kubernetes"},
		{Scale, "helm", "kubernetes kwok helm"},
	} {
		names, err := programsToBuild(test.mode, strings.Fields(test.named))
		if err != nil || strings.Join(names, " ") != test.want {
			t.Errorf("mode %q, %q: got %q, %v; want %s", test.mode, test.named, names, err, test.want)
		}
	}
	if names, err := programsToBuild("", nil); err != nil || len(names) != len(programs) {
		t.Errorf("nothing is said: got %q, %v; want all", names, err)
	}
	for mode, named := range map[Mode]string{"huge": "", "": "vim"} {
		if names, err := programsToBuild(mode, strings.Fields(named)); err == nil {
			t.Errorf("mode %q, %q: got %q", mode, named, names)
		}
	}
}
