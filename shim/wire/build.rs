//! Compiles the etcd v3 wire format, without a protobuf compiler on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["rpc.proto", "v3lock.proto", "v3election.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").build_client(true).compile_fds(descriptors)?;
    Ok(())
}
