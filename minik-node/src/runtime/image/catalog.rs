//! What is built in: each image's programs, the Debian packages that have them, and how its container starts.
//!
//! Pure data and the normalisation of names.

use super::content::{self, Content};

/// How an image is made.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Name in the catalogue.
    pub name: &'static str,
    /// Programs that must be there.
    pub programs: &'static [Program],
    /// Programs that are taken when they are there.
    pub extras: &'static [Program],
    /// Whether busybox gives the commands that no program gives.
    pub busybox: bool,
    /// Whether this binary itself is in the image, as `/usr/bin/minik`.
    pub minik: bool,
    /// Files, directories and links beside the programs.
    pub content: fn() -> Vec<Content>,
    /// See [`super::Image`].
    pub entrypoint: &'static [&'static str],
    /// See [`super::Image`].
    pub cmd: &'static [&'static str],
    /// See [`super::Image`].
    pub stop_signal: i32,
    /// What to make when a program is missing, instead of failing.
    pub stand_in: Option<&'static Recipe>,
    /// How much of the real program this is, when it is a stand-in on every machine.
    pub part: Option<&'static str>,
}

/// A file of the machine that goes into an image under its own name.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Absolute path; also where it goes.
    pub path: &'static str,
    /// Debian package.
    pub package: &'static str,
}

const fn program(path: &'static str, package: &'static str) -> Program {
    Program { path, package }
}

const CURL: Program = program("/usr/bin/curl", "curl");
const BUSYBOX: Program = program("/bin/busybox", "busybox");
const SHELL: [Program; 2] = [BUSYBOX, program("/bin/bash", "bash")];

const EMPTY: Recipe = Recipe {
    name: "",
    programs: &[BUSYBOX],
    extras: &[],
    busybox: true,
    minik: false,
    content: content::base,
    entrypoint: &[],
    cmd: &["sh"],
    stop_signal: libc::SIGTERM,
    stand_in: None,
    part: None,
};

const NGINX: Recipe = Recipe {
    name: "nginx",
    programs: &[program("/usr/sbin/nginx", "nginx-light"), SHELL[0]],
    extras: &[CURL, SHELL[1]],
    content: content::nginx,
    entrypoint: &["nginx", "-g", "daemon off;"],
    cmd: &[],
    stop_signal: libc::SIGQUIT,
    stand_in: Some(&Recipe {
        name: "stand-in/nginx",
        extras: &[CURL, SHELL[1]],
        minik: true,
        content: content::nginx,
        entrypoint: &["/usr/bin/minik", "internal", "standin", "nginx"],
        cmd: &[],
        stop_signal: libc::SIGQUIT,
        ..EMPTY
    }),
    ..EMPTY
};

const HTTPD: Recipe = Recipe {
    name: "httpd",
    programs: &[
        program("/usr/sbin/apache2", "apache2-bin"),
        program("/usr/lib/apache2/modules/mod_mpm_event.so", "apache2-bin"),
        SHELL[0],
    ],
    extras: &[
        CURL,
        SHELL[1],
        program("/usr/lib/apache2/modules/mod_authz_core.so", "apache2-bin"),
        program("/usr/lib/apache2/modules/mod_dir.so", "apache2-bin"),
        program("/usr/lib/apache2/modules/mod_mime.so", "apache2-bin"),
    ],
    content: content::httpd,
    entrypoint: &[
        "apache2",
        "-D",
        "FOREGROUND",
        "-f",
        "/usr/local/apache2/conf/httpd.conf",
    ],
    cmd: &[],
    stop_signal: libc::SIGWINCH,
    stand_in: Some(&Recipe {
        name: "stand-in/httpd",
        extras: &[CURL, SHELL[1]],
        minik: true,
        content: content::httpd,
        entrypoint: &["/usr/bin/minik", "internal", "standin", "httpd"],
        cmd: &[],
        stop_signal: libc::SIGWINCH,
        ..EMPTY
    }),
    ..EMPTY
};

const TOOLS: Recipe = Recipe {
    name: "tools",
    programs: &[
        SHELL[0],
        SHELL[1],
        CURL,
        program("/usr/bin/dig", "bind9-dnsutils"),
        program("/usr/bin/nslookup", "bind9-dnsutils"),
        program("/usr/bin/host", "bind9-host"),
        program("/bin/ping", "iputils-ping"),
        program("/sbin/ip", "iproute2"),
        program("/bin/ss", "iproute2"),
    ],
    extras: &[
        program("/bin/nc.openbsd", "netcat-openbsd"),
        program("/usr/bin/tcpdump", "tcpdump"),
        program("/usr/bin/traceroute.db", "traceroute"),
    ],
    content: content::tools,
    cmd: &["bash"],
    ..EMPTY
};

/// Ends when it is asked to, as Kubernetes' own does: the first process of a container ignores every signal that it has
/// no answer to.
const PAUSE: Recipe = Recipe {
    name: "pause",
    cmd: &["sh", "-c", "trap 'exit 0' INT TERM; tail -f /dev/null & wait"],
    ..EMPTY
};
const BUSYBOX_IMAGE: Recipe = Recipe {
    name: "busybox",
    ..EMPTY
};
/// The program of Kubernetes' network tests and examples, among the tools that its image has.
const AGNHOST: Recipe = Recipe {
    name: "agnhost",
    programs: &[BUSYBOX],
    extras: &[
        SHELL[1],
        CURL,
        program("/usr/bin/dig", "bind9-dnsutils"),
        program("/usr/bin/nslookup", "bind9-dnsutils"),
        program("/usr/bin/host", "bind9-host"),
        program("/bin/nc.openbsd", "netcat-openbsd"),
        program("/sbin/ip", "iproute2"),
        program("/bin/ss", "iproute2"),
    ],
    minik: true,
    content: content::agnhost,
    entrypoint: &["/agnhost"],
    cmd: &["pause"],
    part: Some(
        "it has connect, dns-server-list, dns-suffix, entrypoint-tester, etc-hosts, grpc-health-checking, liveness, \
         netexec, pause, porter, serve-hostname and test-webserver",
    ),
    ..EMPTY
};
const ECHOSERVER: Recipe = Recipe {
    name: "echoserver",
    minik: true,
    entrypoint: &["/usr/bin/minik", "internal", "standin", "echoserver"],
    cmd: &[],
    part: Some("it serves HTTP on port 8080 and no HTTPS"),
    ..EMPTY
};
const ETCD: Recipe = Recipe {
    name: "etcd",
    minik: true,
    content: content::etcd,
    cmd: &["/usr/local/bin/etcd"],
    part: Some("it answers health checks and stores nothing"),
    ..EMPTY
};
const GOPROXY: Recipe = Recipe {
    name: "goproxy",
    minik: true,
    entrypoint: &["/usr/bin/minik", "internal", "standin", "goproxy"],
    cmd: &[],
    part: Some("it listens on port 8080 and proxies nothing"),
    ..EMPTY
};
const DNS: Recipe = Recipe {
    name: "minik/dns",
    programs: &[],
    extras: &[BUSYBOX],
    minik: true,
    entrypoint: &["/usr/bin/minik", "internal", "dns"],
    cmd: &[],
    ..EMPTY
};

const ALL: [Recipe; 10] = [
    AGNHOST,
    BUSYBOX_IMAGE,
    ECHOSERVER,
    ETCD,
    GOPROXY,
    HTTPD,
    DNS,
    NGINX,
    PAUSE,
    TOOLS,
];

/// Other names by which lessons know our images.
const ALIASES: [(&str, &str); 19] = [
    ("alpine", "busybox"),
    ("debian", "tools"),
    ("ubuntu", "tools"),
    ("nginx-slim", "nginx"),
    ("tutum/dnsutils", "tools"),
    ("curlimages/curl", "tools"),
    ("nicolaka/netshoot", "tools"),
    ("coreos/etcd", "etcd"),
    ("e2e-test-images/agnhost", "agnhost"),
    ("e2e-test-images/busybox", "busybox"),
    ("e2e-test-images/echoserver", "echoserver"),
    ("e2e-test-images/glibc-dns-testing", "tools"),
    ("e2e-test-images/httpd", "httpd"),
    ("e2e-test-images/jessie-dnsutils", "tools"),
    ("e2e-test-images/nginx", "nginx"),
    ("google_containers/echoserver", "echoserver"),
    ("wbitt/network-multitool", "tools"),
    ("radial/busyboxplus", "tools"),
    ("google-containers/pause", "pause"),
];

/// Names that people may write, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|recipe| recipe.name).collect()
}

/// Finds the recipe that `image` means.
#[must_use]
pub fn lookup(image: &str) -> Option<Recipe> {
    let name = normalise(image);
    let name = ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, target)| target);
    ALL.into_iter().find(|recipe| recipe.name == name)
}

/// Strips digest, tag, registry (a first part with a dot or colon, or `localhost`) and `library/`.
fn normalise(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let name = match name.split_once('/') {
        Some((registry, rest)) if registry.contains(['.', ':']) || registry == "localhost" => rest,
        _ => name,
    };
    name.strip_prefix("library/").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_tag_and_digest_do_not_matter() {
        for (image, expected) in [
            ("nginx", Some("nginx")),
            ("nginx:1.8.1", Some("nginx")),
            ("docker.io/library/nginx:alpine@sha256:0000", Some("nginx")),
            ("localhost:5000/busybox", Some("busybox")),
            ("registry.k8s.io/pause:3.10", Some("pause")),
            ("registry.k8s.io/nginx-slim:0.24", Some("nginx")),
            ("registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7", Some("tools")),
            ("registry.k8s.io/e2e-test-images/agnhost:2.40", Some("agnhost")),
            ("registry.k8s.io/goproxy:0.1", Some("goproxy")),
            ("registry.k8s.io/etcd:3.5.1-0", Some("etcd")),
            ("registry.k8s.io/echoserver:1.10", Some("echoserver")),
            ("tutum/dnsutils", Some("tools")),
            ("curlimages/curl:8.1", Some("tools")),
            ("debian:12", Some("tools")),
            ("alpine:3", Some("busybox")),
            ("minik/dns", Some("minik/dns")),
            ("someone/nginx", None),
            ("mysql:5.7", None),
            ("", None),
        ] {
            assert_eq!(lookup(image).map(|recipe| recipe.name), expected, "{image}");
        }
    }

    #[test]
    fn every_alias_leads_to_an_image() {
        for (alias, target) in ALIASES {
            assert_eq!(lookup(alias).map(|recipe| recipe.name), Some(target), "{alias}");
        }
    }
}
