//! Servers that prove who they are, and such that cannot.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::process::{Download, Ended, Server, noise};
use crate::wire::scripted;

/// An authority, and its certificate as a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, issuer.pem()).unwrap();
        Authority { issuer, file }
    }

    /// A server under a certificate for `name`, which speaks TLS and hands everything on to `port`; its own port.
    fn secure(&self, name: &str, port: u16) -> u16 {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config =
            Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (config, server) = (Arc::clone(&config), TcpStream::connect(("127.0.0.1", port)));
                std::thread::spawn(move || relay(config, client, server.unwrap()));
            }
        });
        own
    }
}

/// Hands each request of the client on, and its answer back: one at a time, which is what a blocking stream can do.
fn relay(config: Arc<ServerConfig>, client: TcpStream, mut server: TcpStream) {
    let mut client = StreamOwned::new(ServerConnection::new(config).unwrap(), client);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut request = Vec::new();
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => request.extend_from_slice(&buffer[..read]),
            }
        }
        let asked = request.windows(4).filter(|window| window == b"\r\n\r\n").count();
        server.write_all(&request).unwrap();
        for _ in 0..asked {
            let mut answer = Vec::new();
            let head = loop {
                if let Some(at) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                match server.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(read) => answer.extend_from_slice(&buffer[..read]),
                }
            };
            let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
            let length: usize =
                text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
            while answer.len() < head + length {
                match server.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(read) => answer.extend_from_slice(&buffer[..read]),
                }
            }
            if client.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

fn download(urls: &[String], trusted: &Path, out: &Path) -> Ended {
    Download::start(urls, out, &["--ca-certificate", trusted.to_str().unwrap()]).end()
}

#[test]
fn a_file_comes_over_https_and_redirects_may_lead_there() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("movie"), folder.path().join("got"));
    fs::write(&file, noise(3_000_000)).unwrap();
    let server = Server::serve(&file, 0, &[]);
    let authority = Authority::new(folder.path(), "authority");
    let secure = authority.secure("localhost", server.port);
    let leads_there = scripted(move |_, stream| {
        let head =
            format!("HTTP/1.1 302 Found\r\nLocation: https://localhost:{secure}/movie\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).is_ok()
    });
    let urls = [format!("https://localhost:{secure}/movie"), format!("http://127.0.0.1:{leads_there}/")];
    for urls in [&urls[..1], &urls[1..], &urls[..]] {
        let ended = download(urls, &authority.file, &out);
        assert!(ended.status.success(), "{urls:?}: {}", ended.stderr);
        assert_eq!(fs::read(&out).unwrap(), fs::read(&file).unwrap());
        fs::remove_file(&out).unwrap();
    }
}

#[test]
fn who_cannot_prove_who_it_is_gives_nothing_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("movie"), folder.path().join("got"));
    fs::write(&file, noise(300_000)).unwrap();
    let server = Server::serve(&file, 0, &[]);
    let (authority, nobody) = (Authority::new(folder.path(), "authority"), Authority::new(folder.path(), "nobody"));
    let leads_away = {
        let plain = server.port;
        let inner = scripted(move |_, stream| {
            let head =
                format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{plain}/movie\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).is_ok()
        });
        authority.secure("localhost", inner)
    };
    for (port, why) in [
        (nobody.secure("localhost", server.port), "its certificate is not valid"),
        (authority.secure("elsewhere", server.port), "its certificate is not valid"),
        (server.port, "does not speak TLS"),
        (leads_away, "redirects from https to http"),
    ] {
        let urls = [format!("https://localhost:{port}/movie")];
        let mut download = Download::start(&urls, &out, &["--ca-certificate", authority.file.to_str().unwrap()]);
        let mut said = String::new();
        while !said.contains("localhost: down") {
            said = download.next_line();
            assert!(!said.is_empty(), "{why}: the server was not named");
        }
        assert!(said.contains(why), "{why}: {said}");
        download.process.kill();
        assert!(!out.exists() && download.end().received == 0, "{why}");
    }
}

#[test]
fn certificates_that_cannot_be_read_are_told_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, missing) = (folder.path().join("empty.pem"), folder.path().join("missing.pem"));
    fs::write(&empty, "no certificate\n").unwrap();
    for (trusted, words) in [(&empty, "holds no certificate"), (&missing, "cannot read certificates")] {
        let ended = download(&["https://localhost:1/f".to_owned()], trusted, &folder.path().join("got"));
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
        assert!(ended.stderr.contains(words) && ended.stderr.contains(trusted.to_str().unwrap()), "{}", ended.stderr);
    }
}
