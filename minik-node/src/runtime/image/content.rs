//! What images hold beside programs: accounts, resolver settings, certificates, and the official images'
//! configuration layouts. Pure data.

/// One entry of an image's tree; paths have no leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory, for everybody to write when `shared`.
    Directory {
        /// Where.
        path: &'static str,
        /// Mode 1777 instead of 755.
        shared: bool,
    },
    /// A text file.
    File {
        /// Where.
        path: &'static str,
        /// Its text.
        text: &'static str,
    },
    /// A program: a text file that may be run.
    Script {
        /// Where.
        path: &'static str,
        /// Its text.
        text: &'static str,
    },
    /// A symbolic link; a relative one is left out when there is nothing where it leads.
    Link {
        /// Where.
        path: &'static str,
        /// What it says.
        target: &'static str,
    },
    /// A file of this machine, taken when it is there.
    Machine {
        /// Where, on both sides.
        path: &'static str,
    },
}

const fn directory(path: &'static str) -> Content {
    Content::Directory { path, shared: false }
}

const fn file(path: &'static str, text: &'static str) -> Content {
    Content::File { path, text }
}

const fn link(path: &'static str, target: &'static str) -> Content {
    Content::Link { path, target }
}

/// What every image has.
pub fn base() -> Vec<Content> {
    let shared = |path| Content::Directory { path, shared: true };
    let machine = |path| Content::Machine { path };
    vec![
        shared("tmp"),
        shared("var/tmp"),
        directory("root"),
        directory("run"),
        directory("proc"),
        directory("sys"),
        directory("dev"),
        directory("mnt"),
        directory("home"),
        directory("var/log"),
        link("var/run", "/run"),
        file("etc/passwd", PASSWD),
        file("etc/group", GROUP),
        file("etc/shells", "/bin/sh\n/bin/bash\n"),
        file(
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        ),
        file("etc/os-release", OS_RELEASE),
        machine("etc/ssl/certs/ca-certificates.crt"),
        machine("etc/services"),
        machine("etc/protocols"),
        machine("lib/terminfo/x/xterm"),
        machine("lib/terminfo/x/xterm-256color"),
        machine("lib/terminfo/l/linux"),
    ]
}

/// The official nginx image's layout.
pub fn nginx() -> Vec<Content> {
    let mut content = base();
    content.extend([
        file("etc/nginx/nginx.conf", NGINX_CONF),
        file("etc/nginx/conf.d/default.conf", NGINX_DEFAULT),
        file("usr/share/nginx/html/index.html", NGINX_INDEX),
        file("usr/share/nginx/html/50x.html", NGINX_50X),
        directory("var/lib/nginx"),
        directory("var/cache/nginx"),
        directory("var/log/nginx"),
        link("var/log/nginx/access.log", "/dev/stdout"),
        link("var/log/nginx/error.log", "/dev/stderr"),
        file("etc/nginx/mime.types", MIME_TYPES),
        Content::Machine {
            path: "etc/nginx/fastcgi_params",
        },
        Content::Machine {
            path: "etc/nginx/uwsgi_params",
        },
        Content::Machine {
            path: "etc/nginx/scgi_params",
        },
        link("etc/nginx/modules", "/usr/lib/nginx/modules"),
        directory("usr/lib/nginx/modules"),
    ]);
    content
}

/// The official httpd image's layout.
pub fn httpd() -> Vec<Content> {
    let mut content = base();
    content.extend([
        file("usr/local/apache2/conf/httpd.conf", HTTPD_CONF),
        file(
            "usr/local/apache2/conf/mime.types",
            "text/html html htm\ntext/plain txt\ntext/css css\ntext/javascript js\nimage/png png\n",
        ),
        file(
            "usr/local/apache2/htdocs/index.html",
            "<html><body><h1>It works!</h1></body></html>\n",
        ),
        directory("usr/local/apache2/logs"),
    ]);
    content
}

/// agnhost where its image has it, under both of its names.
pub fn agnhost() -> Vec<Content> {
    let mut content = tools();
    content.extend([
        Content::Script {
            path: "agnhost",
            text: "#!/bin/sh\nexec /usr/bin/minik internal standin agnhost \"$@\"\n",
        },
        link("agnhost-2", "agnhost"),
        directory("uploads"),
    ]);
    content
}

/// etcd where its image has it.
pub fn etcd() -> Vec<Content> {
    let mut content = base();
    content.push(Content::Script {
        path: "usr/local/bin/etcd",
        text: "#!/bin/sh\nexec /usr/bin/minik internal standin etcd \"$@\"\n",
    });
    content
}

/// The tools image: commands by the names that people type.
pub fn tools() -> Vec<Content> {
    let mut content = base();
    content.extend([
        link("usr/bin/nc", "nc.openbsd"),
        link("usr/bin/traceroute", "traceroute.db"),
    ]);
    content
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/sbin/nologin
www-data:x:33:33:www-data:/var/www:/sbin/nologin
nginx:x:101:101:nginx user:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
";

const GROUP: &str = "root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
nginx:x:101:
nogroup:x:65534:
";

const OS_RELEASE: &str = "PRETTY_NAME=\"minik image, from this machine's Debian packages\"
NAME=\"minik\"
ID=minik
ID_LIKE=debian
";

const NGINX_CONF: &str = "user  nginx;
worker_processes  1;

error_log  /var/log/nginx/error.log notice;
pid        /run/nginx.pid;

events {
    worker_connections  1024;
}

http {
    include       /etc/nginx/mime.types;
    default_type  application/octet-stream;

    log_format  main  '$remote_addr - $remote_user [$time_local] \"$request\" '
                      '$status $body_bytes_sent \"$http_referer\" '
                      '\"$http_user_agent\" \"$http_x_forwarded_for\"';

    access_log  /var/log/nginx/access.log  main;

    sendfile        on;
    keepalive_timeout  65;

    include /etc/nginx/conf.d/*.conf;
}
";

const NGINX_DEFAULT: &str = "server {
    listen       80;
    server_name  localhost;

    location / {
        root   /usr/share/nginx/html;
        index  index.html index.htm;
    }

    error_page   500 502 503 504  /50x.html;
    location = /50x.html {
        root   /usr/share/nginx/html;
    }
}
";

const NGINX_INDEX: &str = "<!DOCTYPE html>
<html>
<head>
<title>Welcome to nginx!</title>
</head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page is served by a Pod of a minik cluster.</p>
</body>
</html>
";

const NGINX_50X: &str = "<!DOCTYPE html>
<html>
<head>
<title>Error</title>
</head>
<body>
<h1>An error occurred.</h1>
</body>
</html>
";

const MIME_TYPES: &str = "types {
    text/html                html htm shtml;
    text/css                 css;
    text/xml                 xml;
    text/plain               txt;
    application/javascript   js;
    application/json         json;
    image/gif                gif;
    image/jpeg               jpeg jpg;
    image/png                png;
    image/svg+xml            svg svgz;
    image/x-icon             ico;
    font/woff2               woff2;
}
";

const HTTPD_CONF: &str = "ServerRoot /usr/local/apache2
ServerName localhost
Listen 80
PidFile /run/httpd.pid
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
User www-data
Group www-data
DocumentRoot /usr/local/apache2/htdocs
DirectoryIndex index.html
TypesConfig conf/mime.types
ErrorLog /proc/self/fd/2
LogFormat \"%h %l %u %t \\\"%r\\\" %>s %b\" common
CustomLog /proc/self/fd/1 common
";
