//! One question to the cluster's name servers (RFC 1035), asked once: a resolver would try again and hide what was lost.

use std::net::Ipv4Addr;

use tokio::net::UdpSocket;

/// Service `kube-dns`.
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 10), 53);
/// Bytes of a message before its questions.
const HEADER: usize = 12;
/// Type, class, time to live, length.
const RECORD: usize = 10;

/// One of a name's addresses.
pub async fn resolve(name: &str) -> Result<Ipv4Addr, String> {
    let id = rand::random::<u16>();
    let asked = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(SERVER).await?;
        socket.send(&question(id, name)).await?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).await?;
        Ok::<_, std::io::Error>(answer[..length].to_vec())
    };
    let answer = asked.await.map_err(|error| format!("ask for {name}: {error}"))?;
    let addresses = addresses(&answer, id, name).ok_or_else(|| format!("a bad answer for {name}: {answer:?}"))?;
    let chosen = rand::random_range(0..addresses.len().max(1));
    addresses.get(chosen).copied().ok_or_else(|| {
        let code = answer[3] & 0xf;
        format!("{name} has no address (code {code})")
    })
}

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label is short"));
        message.extend(label.as_bytes());
    }
    // The root; type A, class IN.
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The A records of an answer whose names are compressed to the question's, as servers do.
fn addresses(message: &[u8], id: u16, name: &str) -> Option<Vec<Ipv4Addr>> {
    if message.get(..2)? != id.to_be_bytes() {
        return None;
    }
    let count = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    let mut rest = message.get(HEADER + name.len() + 2 + 4..)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let owner = if rest.first()? & 0xc0 == 0xc0 {
            2
        } else {
            rest.iter().position(|byte| *byte == 0)? + 1
        };
        let length = usize::from(u16::from_be_bytes(
            rest.get(owner + RECORD - 2..owner + RECORD)?.try_into().ok()?,
        ));
        let data = rest.get(owner + RECORD..owner + RECORD + length)?;
        if let (Ok(address), [0, 1]) = (<[u8; 4]>::try_from(data), rest.get(owner..owner + 2)?) {
            found.push(address.into());
        }
        rest = rest.get(owner + RECORD + length..)?;
    }
    Some(found)
}
