package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// authority signs the certificates of a cluster.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// identity is a client of the API server: its user name and groups, as the
// certificate carries them.
type identity struct {
	user   string
	groups []string
}

// identities are the clients that get a kubeconfig. Those outside system:
// groups get their rights from the manifests.
func (c *Cluster) identities() map[string]identity {
	return map[string]identity{
		"admin":              {"admin", []string{"system:masters"}},
		"controller-manager": {"system:kube-controller-manager", nil},
		"scheduler":          {"system:kube-scheduler", nil},
		"proxy":              {"system:kube-proxy", nil},
		"kubelet":            {"system:node:" + c.NodeName(), []string{"system:nodes"}},
		"metrics-server":     {"metrics-server", nil},
		"coredns":            {"coredns", nil},
		"network-policies":   {"network-policies", nil},
		// It stands in for kubelets, so its requests are to have their priority;
		// its rights, as it is no node by name, come from RBAC.
		"kwok": {"kwok", []string{"system:nodes"}},
	}
}

// writePKI makes every key, certificate and kubeconfig of the cluster.
func (c *Cluster) writePKI() error {
	ca, err := newAuthority("kubernetes")
	if err != nil {
		return err
	}
	frontProxy, err := newAuthority("front-proxy")
	if err != nil {
		return err
	}
	for name, issuer := range map[string]*authority{"ca": ca, "front-proxy-ca": frontProxy} {
		if err := c.writePair(name, issuer.certificate.Raw, issuer.key); err != nil {
			return err
		}
	}
	issue := func(issuer *authority, name string, template *x509.Certificate) error {
		certificate, key, err := issuer.sign(template)
		if err != nil {
			return err
		}
		return c.writePair(name, certificate, key)
	}
	if err := issue(ca, "server", c.serverCertificate()); err != nil {
		return err
	}
	apiserver := identity{"kube-apiserver", []string{"system:masters"}}
	if err := issue(ca, "apiserver-client", apiserver.certificate()); err != nil {
		return err
	}
	if err := issue(frontProxy, "front-proxy-client", identity{user: "front-proxy-client"}.certificate()); err != nil {
		return err
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := c.writeKey("service-account", signer); err != nil {
		return err
	}
	for name, who := range c.identities() {
		certificate, key, err := ca.sign(who.certificate())
		if err != nil {
			return err
		}
		if err := c.writeKubeconfig(name, ca, certificate, key); err != nil {
			return err
		}
	}
	return nil
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificateTemplate(pkix.Name{CommonName: name})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(raw)
	return &authority{certificate, key}, err
}

func (a *authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	return raw, key, err
}

func certificateTemplate(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		// An hour back, for a clock that is set back while the cluster runs.
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().AddDate(10, 0, 0),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

func (i identity) certificate() *x509.Certificate {
	template := certificateTemplate(pkix.Name{CommonName: i.user, Organization: i.groups})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return template
}

// serverCertificate serves every part that listens, under each name by which
// one of them is called.
func (c *Cluster) serverCertificate() *x509.Certificate {
	template := certificateTemplate(pkix.Name{CommonName: "cluster-" + c.Name})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses = []net.IP{
		net.ParseIP("127.0.0.1"), net.ParseIP(c.Net().Node), net.ParseIP(c.Net().FirstService),
	}
	template.DNSNames = []string{"localhost", c.NodeName()}
	for _, service := range []string{"kubernetes.default", "metrics-server.kube-system"} {
		template.DNSNames = append(template.DNSNames, service, service+".svc", service+".svc.cluster.local")
	}
	template.DNSNames = append(template.DNSNames, "kubernetes")
	return template
}

func (c *Cluster) certPath(name string) string { return c.path("pki", name+".crt") }
func (c *Cluster) keyPath(name string) string  { return c.path("pki", name+".key") }

func (c *Cluster) writePair(name string, certificate []byte, key *ecdsa.PrivateKey) error {
	if err := writeFile(c.certPath(name), encodeCertificate(certificate)); err != nil {
		return err
	}
	return c.writeKey(name, key)
}

func (c *Cluster) writeKey(name string, key *ecdsa.PrivateKey) error {
	encoded, err := encodeKey(key)
	if err != nil {
		return err
	}
	return writeFile(c.keyPath(name), encoded)
}

func encodeCertificate(raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), nil
}

func (c *Cluster) writeKubeconfig(name string, ca *authority, certificate []byte, key *ecdsa.PrivateKey) error {
	encodedKey, err := encodeKey(key)
	if err != nil {
		return err
	}
	inline := base64.StdEncoding.EncodeToString
	return writeFile(c.kubeconfig(name), fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster:
    server: https://%[2]s
    certificate-authority-data: %[3]s
users:
- name: %[4]s
  user:
    client-certificate-data: %[5]s
    client-key-data: %[6]s
contexts:
- name: %[1]s
  context: {cluster: %[1]s, user: %[4]s}
current-context: %[1]s
`, c.Name, c.at("apiserver"), inline(encodeCertificate(ca.certificate.Raw)), name,
		inline(encodeCertificate(certificate)), inline(encodedKey)))
}

// trust gives the cluster's CA for the tool's own requests.
func (c *Cluster) trust() (*x509.CertPool, error) {
	data, err := os.ReadFile(c.certPath("ca"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", c.certPath("ca"))
	}
	return pool, nil
}
