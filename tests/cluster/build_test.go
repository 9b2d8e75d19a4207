package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestEachVersionIsTheOneInItsModule(t *testing.T) {
	versions := map[string]string{"go.mod": kubernetesVersion}
	for _, p := range olderKubernetes {
		flags := strings.Join(p.flags, " ")
		_, version, _ := strings.Cut(flags, "gitVersion=")
		versions[p.name+".mod"] = strings.Fields(version)[0]
	}
	for file, version := range versions {
		text, err := os.ReadFile(filepath.Join("tools", file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\tk8s.io/kubernetes "+version+"\n") {
			t.Errorf("%s does not name Kubernetes %s", file, version)
		}
	}
}

func TestOlderKubernetesIsThereByItsMinorVersionAndTheNewestWithout(t *testing.T) {
	newest := minorOf(kubernetesVersion)
	for _, asked := range []string{"", newest} {
		older, err := olderVersion(asked)
		if err != nil || !slices.Equal(neededBy(ControlPlane, older), []string{kubernetesProgram}) {
			t.Errorf("%q: got %q, %v", asked, older, err)
		}
	}
	for minor := range olderKubernetes {
		older, err := olderVersion(minor)
		if err != nil || !slices.Equal(neededBy(ControlPlane, older), []string{kubernetesProgram + "-" + minor}) {
			t.Errorf("%q: got %q, %v", minor, older, err)
		}
	}
	if _, err := olderVersion("1.2"); err == nil || !strings.Contains(err.Error(), newest) {
		t.Errorf("got %v, want the versions that there are", err)
	}
}

func TestOlderKubernetesHasNoNode(t *testing.T) {
	for minor := range olderKubernetes {
		t.Setenv("CACHEDSERVICE_KUBERNETES", minor)
		if wanted, err := upRequest([]string{"--mode", "full"}); err == nil {
			t.Errorf("got %+v", wanted)
		}
		if wanted, err := upRequest([]string{"--mode", "control-plane"}); err != nil || wanted.older != minor {
			t.Errorf("got %+v, %v", wanted, err)
		}
	}
}

// The programs that a user runs by hand are those of the newest version.
func TestNameOfAProgramMeansTheNewestVersion(t *testing.T) {
	if p, _ := find("kubectl"); p.name != kubernetesProgram {
		t.Errorf("kubectl is of %s", p.name)
	}
}
