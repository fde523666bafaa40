// Package v3rpc, as `cargo xtask test conformance` compiles it: this file stands in for
// go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc/grpc.go through `go test -overlay`.
//
// etcd's test framework makes its members as always, with their listeners, TLS and restarts; but the gRPC server of a
// member forwards every call, byte for byte, to the sluice-shim that $SLUICE_CONFORMANCE_SERVER names. Only the Cluster
// service is the members' own, since the framework waits until it knows of all members. The members of a cluster share
// one shim, which runs while one of them does, is killed with -9 when the last one stops, and finds its database again
// when one restarts. A quota that one of them is given with a restart holds for all of them. Metrics that the shim has
// under etcd's names have the shim's values.
package v3rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/client/v3/credentials"
	"go.etcd.io/etcd/server/v3/etcdserver"
)

// startTimeout is how long a shim may take until it listens.
const startTimeout = 30 * time.Second

// Server returns the gRPC server of a member. It calls interceptor for each call, to let it count them.
func Server(s *etcdserver.EtcdServer, tls *tls.Config, interceptor grpc.UnaryServerInterceptor, gopts ...grpc.ServerOption) *grpc.Server {
	shim := acquire(s)
	conn, err := grpc.NewClient(shim.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		panic(err)
	}
	go func() {
		<-s.StoppingNotify()
		_ = conn.Close()
		shim.release()
	}()

	forwarder := forwarder{conn, interceptor}
	opts := []grpc.ServerOption{
		grpc.ForceServerCodec(bytesCodec{}),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(s.Cfg.MaxConcurrentStreams),
		grpc.UnknownServiceHandler(forwarder.handle),
		// What the framework registers (locks, elections) would be answered by the member itself.
		grpc.UnaryInterceptor(forwarder.registered),
		grpc.StreamInterceptor(func(service any, client grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
			return forwarder.handle(service, client)
		}),
	}
	if tls != nil {
		opts = append(opts, grpc.Creds(credentials.NewTransportCredential(tls)))
	}
	server := grpc.NewServer(append(opts, gopts...)...)
	pb.RegisterClusterServer(server, NewClusterServer(s))
	return server
}

// forwarder passes calls on.
type forwarder struct {
	conn        *grpc.ClientConn
	interceptor grpc.UnaryServerInterceptor
}

// handle passes one call on, of whatever kind: its metadata, messages, trailer and status.
func (f forwarder) handle(_ any, client grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(client)
	ctx, cancel := context.WithCancel(client.Context())
	defer cancel()
	if f.interceptor != nil {
		info := &grpc.UnaryServerInfo{FullMethod: method}
		_, _ = f.interceptor(ctx, nil, info, func(context.Context, any) (any, error) { return nil, nil })
	}
	if asked := os.Getenv("SLUICE_CONFORMANCE_ASKED"); asked != "" {
		_ = os.WriteFile(asked, nil, 0o600)
	}
	received, _ := metadata.FromIncomingContext(ctx)
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	server, err := f.conn.NewStream(metadata.NewOutgoingContext(ctx, received.Copy()), both, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var message []byte
			err := client.RecvMsg(&message)
			if err == nil {
				err = server.SendMsg(&message)
			}
			if errors.Is(err, io.EOF) {
				_ = server.CloseSend()
				return
			}
			if err != nil {
				cancel()
				return
			}
		}
	}()
	defer func() { client.SetTrailer(server.Trailer()) }()
	if header, err := server.Header(); err == nil {
		_ = client.SendHeader(header)
	}
	for {
		var message []byte
		if err := server.RecvMsg(&message); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := client.SendMsg(&message); err != nil {
			return err
		}
	}
}

// registered passes a call of a registered service on, whose request was decoded already, unless it is the members'
// own.
func (f forwarder) registered(ctx context.Context, request any, info *grpc.UnaryServerInfo, own grpc.UnaryHandler) (any, error) {
	if strings.HasPrefix(info.FullMethod, "/etcdserverpb.Cluster/") {
		return own(ctx, request)
	}
	sent, err := (&codec{}).Marshal(request)
	if err != nil {
		return nil, err
	}
	received, _ := metadata.FromIncomingContext(ctx)
	var answer []byte
	if err := f.conn.Invoke(metadata.NewOutgoingContext(ctx, received.Copy()), info.FullMethod, &sent, &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// bytesCodec leaves messages as they are; those of registered services are decoded.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) ([]byte, error) {
	if message, ok := v.(*[]byte); ok {
		return *message, nil
	}
	return (&codec{}).Marshal(v)
}

func (bytesCodec) Unmarshal(data []byte, v any) error {
	if message, ok := v.(*[]byte); ok {
		*message = append([]byte(nil), data...)
		return nil
	}
	return (&codec{}).Unmarshal(data, v)
}

// shim is the store of one cluster.
type shim struct {
	cluster types.ID
	// database is its connection string.
	database string
	address  string
	// members that run.
	members int
	// quota that a test asked for.
	quota int64
	// emptyBytes are in use before the tests write, or 0 as long as no quota needs them. Each table and index of the shim
	// has a page; tests set quotas of a few pages, since an empty file of etcd has fewer.
	emptyBytes int64
	command    *exec.Cmd
	ended      chan struct{}
}

var (
	shimsMu sync.Mutex
	// shims by cluster; those without members wait for a restart.
	shims = map[types.ID]*shim{}
	// databases are the connections on which they were asked for, which the garbage collector would close.
	databases []net.Conn
)

// acquire gives the shim of the member's cluster, which runs.
func acquire(s *etcdserver.EtcdServer) *shim {
	shimsMu.Lock()
	defer shimsMu.Unlock()
	cluster := s.Cluster().ID()
	found := shims[cluster]
	if found == nil {
		found = &shim{cluster: cluster, database: database()}
		shims[cluster] = found
	}
	switch quota := s.Cfg.QuotaBackendBytes; {
	case found.members == 0:
		found.address = freeAddress()
		found.start(s)
	case quota > 0 && quota != found.quota:
		found.kill()
		found.start(s)
	}
	found.members++
	return found
}

// database is the connection string of an empty database: a file, unless $SLUICE_CONFORMANCE_DATABASES says who hands
// out others. One of those lives as long as the connection on which it was asked for: as long as this process.
func database() string {
	address := os.Getenv("SLUICE_CONFORMANCE_DATABASES")
	if address == "" {
		dir, err := os.MkdirTemp("", "shim")
		if err != nil {
			panic(err)
		}
		return "sqlite://" + filepath.Join(dir, "state.db")
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	databases = append(databases, conn)
	endpoint, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(endpoint, "://") {
		panic(fmt.Sprintf("no database: %s %v", endpoint, err))
	}
	return strings.TrimSpace(endpoint)
}

// release says that a member has stopped.
func (shim *shim) release() {
	shimsMu.Lock()
	defer shimsMu.Unlock()
	shim.members--
	if shim.members == 0 {
		shim.kill()
	}
}

// kill ends the process.
func (shim *shim) kill() {
	_ = shim.command.Process.Signal(syscall.SIGKILL)
	<-shim.ended
}

// start starts the process with what the test asks of the member.
func (shim *shim) start(s *etcdserver.EtcdServer) {
	shim.quota = s.Cfg.QuotaBackendBytes
	flags := shim.flags(s)
	if shim.quota > 0 {
		if shim.emptyBytes == 0 {
			shim.launch(flags)
			shim.defragment()
			shim.emptyBytes = shim.bytesInUse()
			shim.kill()
		}
		// What a test takes to be too much must not fit: it gets what is free in an empty database, and no byte more.
		flags = append(flags, "--quota-backend-bytes", fmt.Sprint(shim.emptyBytes+shim.quota))
	}
	shim.launch(flags)
}

// defragment gives the tables the size that they have after any other defragmentation. MariaDB makes them smaller at
// first.
func (shim *shim) defragment() {
	conn, err := grpc.NewClient(shim.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if _, err := pb.NewMaintenanceClient(conn).Defragment(ctx, &pb.DefragmentRequest{}); err != nil {
		panic(err)
	}
}

// launch runs the process and waits until it listens. It dies with the test program.
func (shim *shim) launch(flags []string) {
	log := &strings.Builder{}
	shim.command = exec.Command(os.Getenv("SLUICE_CONFORMANCE_SERVER"), flags...)
	shim.command.Env = append(os.Environ(), "SLUICE_ENDPOINT="+shim.database)
	shim.command.Stdout, shim.command.Stderr = log, log
	shim.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended := make(chan struct{})
	shim.ended = ended
	go func() {
		// The signal comes when this thread ends, so it must not end before the process.
		runtime.LockOSThread()
		defer close(ended)
		err := shim.command.Start()
		started <- err
		if err == nil {
			_ = shim.command.Wait()
		}
	}()
	if err := <-started; err != nil {
		panic(err)
	}
	deadline := time.Now().Add(startTimeout)
	for {
		conn, err := net.Dial("tcp", shim.address)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			panic("sluice-shim ended: " + log.String())
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("sluice-shim does not listen at %s: %v", shim.address, err))
		}
	}
}

// flags gives the shim what the test asks of its members, but for the quota.
func (shim *shim) flags(s *etcdserver.EtcdServer) []string {
	flags := []string{
		"--listen-client-urls", "http://" + shim.address,
		"--name", s.Cfg.Name,
		"--log-level", "warn",
		"--max-txn-ops", fmt.Sprint(s.Cfg.MaxTxnOps),
		"--max-request-bytes", fmt.Sprint(s.Cfg.MaxRequestBytes),
	}
	interval := s.Cfg.WatchProgressNotifyInterval
	if interval == 0 {
		// A variable of this package, which tests set.
		interval = GetProgressReportInterval()
	}
	return append(flags, "--watch-progress-notify-interval", fmt.Sprintf("%dms", interval.Milliseconds()))
}

// gatherer has the metrics of this process, but those without labels that a shim has as well with the sum of the shims,
// and the shim's histogram of ranges.
type gatherer struct{ own prometheus.Gatherer }

func init() {
	prometheus.DefaultGatherer = gatherer{prometheus.DefaultGatherer}
}

func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	families, err := g.own.Gather()
	if err != nil {
		return nil, err
	}
	values, histogram, err := shimMetrics()
	if histogram != nil {
		families = append(families, histogram)
	}
	for _, family := range families {
		value, known := values[family.GetName()]
		if !known || len(family.Metric) != 1 || family.Metric[0].Gauge == nil {
			continue
		}
		family.Metric[0].Gauge.Value = &value
	}
	return families, err
}

// ofRanges is a histogram of etcd that no member observes, since the shim reads the ranges.
const ofRanges = "etcd_server_range_duration_seconds"

// shimMetrics are the metrics without labels of the shims that run, added up by name, and the histogram of ranges of
// one of them.
func shimMetrics() (map[string]float64, *dto.MetricFamily, error) {
	shimsMu.Lock()
	defer shimsMu.Unlock()
	values := map[string]float64{}
	var histogram *dto.MetricFamily
	for _, shim := range shims {
		if shim.members == 0 {
			continue
		}
		text, err := shim.metrics()
		if err != nil {
			return nil, nil, err
		}
		var ofRange strings.Builder
		for line := range strings.Lines(text) {
			name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
			if value, err := strconv.ParseFloat(number, 64); err == nil {
				values[name] += value
			}
			if strings.Contains(line, ofRanges) {
				ofRange.WriteString(line)
			}
		}
		// The text as a whole is OpenMetrics, which this parser does not read; a histogram is the same in both.
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(ofRange.String()))
		if err != nil {
			return nil, nil, err
		}
		histogram = families[ofRanges]
	}
	return values, histogram, nil
}

// metrics is what the shim says of itself.
func (shim *shim) metrics() (string, error) {
	answer, err := http.Get("http://" + shim.address + "/metrics")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// bytesInUse are those of the database without free pages.
func (shim *shim) bytesInUse() int64 {
	const metric = "etcd_mvcc_db_total_size_in_use_in_bytes "
	text, err := shim.metrics()
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(text) {
		if number, found := strings.CutPrefix(line, metric); found {
			bytes, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
			if err != nil {
				panic(err)
			}
			return bytes
		}
	}
	panic("sluice-shim does not say how many bytes are in use")
}

// freeAddress is an address on loopback that nobody listens on.
func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
