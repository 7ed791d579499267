//! A server of gRPC's health protocol, as small as that: service "" serves, "db" does not, others are unknown.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Serves on a free port of every address for as long as the runtime lives.
pub async fn serve() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer);
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let served = server.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(served.await) });
        }
    });
    address
}

async fn answer(request: http::Request<Incoming>) -> Result<http::Response<BoxBody<Bytes, Infallible>>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let question = request.into_body().collect().await.unwrap().to_bytes();
    // HealthCheckRequest: field 1, a string.
    let service = question.get(7..).unwrap_or_default();
    let status = match service {
        b"" => Some(1),
        b"db" => Some(2),
        _ => None,
    };
    let response = http::Response::builder().header("content-type", "application/grpc");
    let Some(status) = status else {
        let response = response
            .header("grpc-status", "5")
            .header("grpc-message", "unknown service");
        return Ok(response.body(Full::new(Bytes::new()).boxed()).unwrap());
    };
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [
        Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures::stream::iter(frames));
    Ok(response.body(BodyExt::boxed(body)).unwrap())
}
