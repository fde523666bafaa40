// Pins the repository of etcd for its alerts and dashboards (contrib/mixin), which no module of newer releases holds.
module sluice.invalid/etcd-mixin

go 1.26.0

require go.etcd.io/etcd/v3 v3.6.8
