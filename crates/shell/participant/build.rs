//! Makes client and server of the synchronizer's own service; its messages are plain Rust.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str, input: &str, output: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::synchronizer::wire::{input}"))
            .output_type(format!("crate::synchronizer::wire::{output}"))
            .codec_path("tonic_prost::ProstCodec")
    };
    let service = Service::builder()
        .name("Synchronizer")
        .package("heirloom.synchronizer.v1")
        .comment("What participants ask of the reference synchronizer.")
        .method(method("describe", "Describe", "DescribeRequest", "Parameters").build())
        .method(method("submit", "Submit", "SubmitRequest", "SubmitReply").build())
        .method(
            method("follow", "Follow", "FollowRequest", "FollowReply")
                .client_streaming()
                .server_streaming()
                .build(),
        )
        .build();
    Builder::new().compile(&[service]);
}
