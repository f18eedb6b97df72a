//! The registry log on an etcd cluster.
