// Package testserver, as `cargo xtask test conformance` compiles it: it stands in for
// k8s.io/apiserver/pkg/storage/etcd3/testserver/test_server.go through `go test -overlay`.
//
// The tests call the same two functions and get a client of the server that the environment names: sluice-shim with a
// new database, or etcd for comparison. Nothing else of the tests changes.
package testserver

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// startTimeout is how long a server may take until it answers.
const startTimeout = 60 * time.Second

// NewTestConfig returns a configuration with a free client port and a folder that goes with the test. Of the rest,
// RunEtcd reads the client's TLS files and the interval of progress notifications.
func NewTestConfig(t testing.TB) *embed.Config {
	client, peer := freeURL(t), freeURL(t)
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	return cfg
}

// RunEtcd starts a server with the given configuration (a new one if nil) and returns its client. Both end with the
// test.
func RunEtcd(t testing.TB, cfg *embed.Config) *kubernetes.Client {
	t.Helper()
	if cfg == nil {
		cfg = NewTestConfig(t)
	}
	ended := run(t, command(t, cfg))

	tlsConfig, err := cfg.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	var endpoints []string
	for _, address := range cfg.AdvertiseClientUrls {
		endpoints = append(endpoints, address.String())
	}
	client, err := kubernetes.New(clientv3.Config{
		TLS:         tlsConfig,
		Endpoints:   endpoints,
		DialTimeout: 10 * time.Second,
		Logger:      zaptest.NewLogger(t, zaptest.Level(zapcore.ErrorLevel)).Named("etcd-client"),
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitAnswer(t, client.Client, endpoints[0], ended)
	if asked := os.Getenv("SLUICE_CONFORMANCE_ASKED"); asked != "" {
		if err := os.WriteFile(asked, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return recorded(client)
}

// recorded counts the requests, as the tests expect of their client.
func recorded(client *kubernetes.Client) *kubernetes.Client {
	lists := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	// The recorder of reads takes that of lists as a second argument in newer minors only; this file serves all.
	newRecorder := reflect.ValueOf(storagetesting.NewKVRecorder)
	args := []reflect.Value{reflect.ValueOf(client.KV), reflect.ValueOf(lists)}[:newRecorder.Type().NumIn()]
	client.KV = newRecorder.Call(args)[0].Interface().(clientv3.KV)
	client.Kubernetes = lists
	return client
}

// command is the command line of $SLUICE_CONFORMANCE_SERVER, a sluice-shim or an etcd.
func command(t testing.TB, cfg *embed.Config) *exec.Cmd {
	program := os.Getenv("SLUICE_CONFORMANCE_SERVER")
	args := []string{
		"--name", cfg.Name,
		"--listen-client-urls", joined(cfg.ListenClientUrls),
		"--advertise-client-urls", joined(cfg.AdvertiseClientUrls),
		"--log-level", "warn",
	}
	if interval := cfg.WatchProgressNotifyInterval; interval > 0 {
		args = append(args, "--watch-progress-notify-interval", interval.String())
	}
	if tls := cfg.ClientTLSInfo; !tls.Empty() {
		args = append(args, "--cert-file", tls.CertFile, "--key-file", tls.KeyFile, "--trusted-ca-file", tls.TrustedCAFile)
	}
	var env []string
	switch filepath.Base(program) {
	case "sluice-shim":
		env = append(os.Environ(), "SLUICE_ENDPOINT="+database(t, cfg))
	case "etcd":
		peer := joined(cfg.ListenPeerUrls)
		args = append(args, "--data-dir", cfg.Dir, "--unsafe-no-fsync", "--quota-backend-bytes", fmt.Sprint(cfg.QuotaBackendBytes),
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cfg.Name+"="+peer)
	default:
		t.Fatalf("SLUICE_CONFORMANCE_SERVER=%q is neither a sluice-shim nor an etcd", program)
	}
	command := exec.Command(program, args...)
	command.Env = env
	return command
}

// database is the connection string of an empty database: a file, unless $SLUICE_CONFORMANCE_DATABASES says who hands
// out others. One of those lives as long as the connection on which it was asked for.
func database(t testing.TB, cfg *embed.Config) string {
	address := os.Getenv("SLUICE_CONFORMANCE_DATABASES")
	if address == "" {
		return "sqlite://" + filepath.Join(cfg.Dir, "state.db")
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	endpoint, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(endpoint, "://") {
		t.Fatalf("no database: %s %v", endpoint, err)
	}
	return strings.TrimSpace(endpoint)
}

// run starts the server and stops it when the test ends. If the test program dies, the server dies with it. The channel
// is closed when the server has ended.
func run(t testing.TB, server *exec.Cmd) <-chan struct{} {
	t.Helper()
	log := &strings.Builder{}
	server.Stdout, server.Stderr = log, log
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The signal comes when this thread ends, so it must not end before the server.
		runtime.LockOSThread()
		defer close(ended)
		err := server.Start()
		started <- err
		if err == nil {
			_ = server.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", server, err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGKILL)
		<-ended
		if t.Failed() && log.Len() > 0 {
			t.Logf("what the server said:\n%s", log)
		}
	})
	return ended
}

// awaitAnswer waits until the server answers.
func awaitAnswer(t testing.TB, client *clientv3.Client, endpoint string, ended <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(ctx, time.Second)
		_, err := client.Status(attempt, endpoint)
		done()
		if err == nil {
			return
		}
		select {
		case <-ended:
			t.Fatal("the server ended")
		case <-ctx.Done():
			t.Fatalf("the server does not answer at %s: %v", endpoint, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func joined(addresses []url.URL) string {
	var text []string
	for _, address := range addresses {
		text = append(text, address.String())
	}
	return strings.Join(text, ",")
}

// freeURL is an address on loopback that nobody listens on.
func freeURL(t testing.TB) url.URL {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return url.URL{Scheme: "http", Host: listener.Addr().String()}
}
