//! The proxy that hosts other than loopback are reached by, read strictly.
//!
//! reqwest passes over a variable that it cannot read, and takes half of a password that has a `#` in it: the request
//! would go straight out, or with the wrong credentials, and nobody would know. Here it is read before anything is sent.
//!
//! All hosts but loopback ones are `https`, so `HTTP_PROXY` is never asked for. Nor does it matter then whether this is a
//! CGI program: a request's header can only set variables whose name begins with `HTTP_`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::pin::pin;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::StatusCode;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use tokio::net::TcpStream;

use crate::error::Error;
use crate::region::address;
use crate::text::is_hidden;

/// Of these the first that is not empty.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A proxy, and the hosts that it is not for.
#[derive(Clone)]
pub(crate) struct Proxy {
    url: Url,
    name: String,
    exceptions: Vec<Exception>,
    /// What `NO_PROXY` lists is not reached by it.
    of_environment: bool,
}

impl Proxy {
    /// The proxy at this URL, for all hosts.
    pub(crate) fn given(url: &str) -> Result<Self, Error> {
        Self::read(url).map_err(|why| unusable("the proxy URL", why))
    }

    /// What the variables of the environment say, if they name one.
    pub(crate) fn of_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, Error> {
        let first = |names: &[&'static str]| {
            let set = names.iter().filter_map(|name| Some((*name, variable(name)?)));
            set.into_iter().find(|(_, value)| !value.is_empty())
        };
        let Some((name, value)) = first(&VARIABLES) else { return Ok(None) };
        let exceptions = match first(&EXCEPTIONS) {
            Some((_, list)) => exceptions(&list.to_string_lossy()),
            None => Vec::new(),
        };
        if exceptions.contains(&Exception { hosts: Hosts::All, port: None }) {
            return Ok(None);
        }
        let read = value.to_str().ok_or("it is not UTF-8").and_then(Self::read);
        let proxy = read.map_err(|why| unusable(&format!("the environment variable {name}"), why))?;
        Ok(Some(Self { exceptions, of_environment: true, ..proxy }))
    }

    /// Whether this is reached by the proxy.
    pub(crate) fn is_for(&self, url: &Url) -> bool {
        !self.exceptions.iter().any(|exception| exception.matches(url))
    }

    /// Host and port, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How a host is reached that it lets nobody through to.
    pub(crate) fn way_round(&self) -> &'static str {
        if self.of_environment { ", or name the host in NO_PROXY" } else { "" }
    }

    pub(crate) fn of_reqwest(&self) -> reqwest::Proxy {
        let proxy = self.clone();
        reqwest::Proxy::custom(move |url| proxy.is_for(url).then(|| proxy.url.clone()))
    }

    /// What it says when it is asked for the way to this host. hyper-util keeps that to itself, so a proxy that did not open the
    /// way is asked once more. None of one that is reached by TLS, and where it says nothing that can be read.
    pub(crate) async fn says(&self, url: &Url) -> Option<StatusCode> {
        let at = (self.url.host_str()?, self.url.port_or_known_default()?);
        let way = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
        if self.url.scheme() != "http" {
            return None;
        }
        let mut ask = http::Request::connect(&way).header(HOST, &way);
        if !self.url.username().is_empty() {
            ask = ask.header(PROXY_AUTHORIZATION, self.credentials()?);
        }
        let ask = ask.body(Empty::<Bytes>::new()).ok()?;
        let stream = TcpStream::connect((at.0.trim_matches(['[', ']']), at.1)).await.ok()?;
        let (mut proxy, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        match select(pin!(proxy.send_request(ask)), pin!(connection)).await {
            Either::Left((answer, _)) => Some(answer.ok()?.status()),
            Either::Right((_, answer)) => Some(answer.await.ok()?.status()),
        }
    }

    fn credentials(&self) -> Option<HeaderValue> {
        let plain = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let (user, password) = (plain(self.url.username()), plain(self.url.password().unwrap_or_default()));
        let basic = BASE64_STANDARD.encode([&*user, b":", &*password].concat());
        let mut value = HeaderValue::try_from(format!("Basic {basic}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.chars().any(|c| c.is_whitespace() || is_hidden(c)) {
            return Err("it has blanks, a line end or invisible characters in it or around it");
        }
        if text.starts_with(['"', '\'', '`']) || text.ends_with(['"', '\'', '`']) {
            return Err("it is in quotes");
        }
        let (scheme, rest) = scheme(text)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        check_authority(rest)?;
        let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| "its host cannot be read")?;
        // What `url` takes and the HTTP layer does not, reqwest would pass over.
        if url.as_str().parse::<http::Uri>().is_err() {
            return Err("its host cannot be read");
        }
        let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let name = format!("{host}:{port}");
        Ok(Self { url, name, exceptions: Vec::new(), of_environment: false })
    }
}

/// Without the value: it may hold a password, and where that begins and ends cannot be told of one that is not read.
fn unusable(what: &str, why: &str) -> Error {
    Error::invalid_input(format!(
        "{what} cannot be used (not shown, it may hold a password): {why}; right is http://proxy:3128 or \
         http://user:password@proxy:3128, in user and password # as %23, @ as %40, / as %2F, % as %25"
    ))
}

/// As curl has it, a proxy without a scheme is an `http` one.
fn scheme(text: &str) -> Result<(&'static str, &str), &'static str> {
    let begins = |with: &str| text.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => Ok(("http", rest)),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => Ok(("https", rest)),
        _ if begins("socks") && text.contains("://") => {
            Err("it is a SOCKS proxy, and this crate speaks only to HTTP proxies (CONNECT)")
        }
        Some(_) => Err("its scheme is neither http nor https"),
        None if begins("http:") || begins("https:") => Err("two slashes belong after its scheme"),
        None => Ok(("http", text)),
    }
}

/// `user:password@host:port`. What would end it early (`/`, `?`, `#`) or could be read in two ways is refused.
fn check_authority(text: &str) -> Result<(), &'static str> {
    if text.contains(['#', '/', '?', '\\']) {
        return Err(match text.contains('@') {
            true => "a #, /, ? or \\ stands in it as it is: percent-encode it in user and password",
            false => "more than host and port stands in it (the address of a PAC file is no proxy's)",
        });
    }
    let (user, address) = match text.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, text),
    };
    if let Some(user) = user {
        if matches!(user, "" | ":") {
            return Err("user and password before the @ are missing");
        }
        if user.contains('@') {
            return Err("an @ stands in user or password as it is: percent-encode it as %40");
        }
        if !is_percent_encoded(user) {
            return Err("a % stands in user or password as it is (as %25 it is one), or what it encodes is not UTF-8");
        }
    }
    check_address(address)
}

fn check_address(address: &str) -> Result<(), &'static str> {
    // Of an IPv6 address only what follows its bracket is the port.
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (address, None),
    };
    if host.is_empty() {
        return Err("its host is missing");
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err("there is more than one colon in host and port (an IPv6 address is written in [ ])");
    }
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port > 0);
    match port {
        Some(port) if !is_port(port) => Err("its port is no number from 1 to 65535"),
        _ => Ok(()),
    }
}

fn is_percent_encoded(text: &str) -> bool {
    let two_digits = |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    text.split('%').skip(1).all(two_digits) && percent_decode_str(text).decode_utf8().is_ok()
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq)]
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
enum Hosts {
    All,
    Net(IpNet),
    /// The domain and all below it.
    Domain(String),
}

impl Exception {
    fn matches(&self, url: &Url) -> bool {
        if self.port.is_some() && self.port != url.port_or_known_default() {
            return false;
        }
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        match (&self.hosts, address(url)) {
            (Hosts::All, _) => true,
            (Hosts::Net(net), Some(address)) => net.contains(&address),
            (Hosts::Domain(domain), None) => {
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

/// As curl, Go and the official SDKs read it, with all that can stand for one thing only: separated by commas or blanks;
/// `*`, addresses, networks, domains with or without `.` or `*.` before them, a port after them.
fn exceptions(list: &str) -> Vec<Exception> {
    list.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '\'')).filter_map(exception).collect()
}

fn exception(entry: &str) -> Option<Exception> {
    let entry = entry.split_once("://").map_or(entry, |(_, rest)| rest).trim_end_matches('/');
    let net = |text: &str| {
        let text = text.trim_start_matches('[').trim_end_matches(']');
        text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    };
    if let Some(net) = net(entry) {
        return Some(Exception { hosts: Hosts::Net(net), port: None });
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (entry, None),
    };
    let hosts = match (host, net(host)) {
        ("*", _) => Hosts::All,
        (_, Some(net)) => Hosts::Net(net),
        _ => {
            let domain = host.strip_prefix('*').unwrap_or(host);
            let domain = domain.strip_prefix('.').unwrap_or(domain).trim_end_matches('.');
            Hosts::Domain((!domain.is_empty()).then(|| domain.to_ascii_lowercase())?)
        }
    };
    Some(Exception { hosts, port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Proxy>, Error> {
        let map: BTreeMap<_, _> = variables.iter().copied().collect();
        Proxy::of_environment(|name| map.get(name).map(|value| (*value).into()))
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// What cannot be read, and why.
    const REFUSED: &[(&[&str], &str)] = &[
        (
            &[
                " http://u:s3cret@proxy:3128",
                "http://u:s3cret@proxy:3128\n",
                "http://u:s3 cret@proxy:3128",
                "  ",
                "\u{FEFF}http://proxy:1",
            ],
            "blanks",
        ),
        (&["\"http://u:s3cret@proxy:3128\"", "'proxy:3128'", "http://proxy:3128\""], "quotes"),
        (&["http:/u:s3cret@proxy:3128", "https:proxy:8080", "HTTP:proxy", "http:\\\\proxy:80"], "two slashes"),
        (&["htpp://u:s3cret@proxy:3128", "ftp://proxy", "://proxy:3128"], "scheme"),
        (&["socks5://u:s3cret@proxy:1080", "SOCKS4a://proxy", "socks5h://127.0.0.1:9050"], "SOCKS"),
        (
            &[
                "http://u:s3cret#x@proxy:3128",
                "http://u:s3cret/x@proxy:3128",
                "u:s3cret?@proxy:3128",
                "http://dom\\u:s3cret@proxy:3128",
            ],
            "percent-encode it",
        ),
        (&["http://u:s3cret@x@proxy:3128", "u@corp:s3cret@proxy:3128"], "%40"),
        (&["http://u:s3cret%@proxy:3128", "http://u:s3cret%zz@proxy:3128", "http://u:%e4s3cret@proxy:3128"], "%25"),
        (&["http://@proxy:3128", "http://:@proxy:3128"], "missing"),
        (&["http://proxy:3128/proxy.pac", "//proxy:3128", "http://proxy/?a=b", "http://proxy#x"], "PAC"),
        (&["http://", "http://:3128", "http://u:s3cret@", "https:///"], "host is missing"),
        (
            &[
                "http://proxy:",
                "proxy:0",
                "http://u:s3cret@proxy:65536",
                "proxy:port",
                "http://proxy:+80",
                "http://u:s3cret@[::1]:x",
            ],
            "port",
        ),
        (&["http://::1", "http://fe80::1:3128", "http://proxy:3128:3129"], "more than one colon"),
        (
            &["http://${PROXY}:3128", "http://pro|xy", "http://[::1:3128", "http://a{b:1", "http://<proxy>"],
            "host cannot be read",
        ),
    ];

    #[test]
    fn what_cannot_be_read_is_refused_by_the_variables_name_without_its_value() {
        for (values, why) in REFUSED {
            for value in *values {
                for name in VARIABLES {
                    let error = of(&[(name, value)]).err().unwrap_or_else(|| unreachable!("{value} was taken"));
                    let told = format!("{error} {error:?}");
                    assert!(told.contains(&format!("variable {name} cannot")) && told.contains(why), "{value}: {told}");
                    assert!(!told.contains("s3cret") && !told.contains("u:"), "{told}");
                }
                let given = Proxy::given(value).err().unwrap_or_else(|| unreachable!("{value} was taken"));
                assert!(given.to_string().contains(why) && !given.to_string().contains("s3cret"), "{given}");
            }
        }
        assert!(Proxy::given("").err().unwrap().to_string().contains("empty"));
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt as _;
            let latin = OsString::from_vec(b"http://u:p\xe4ss@proxy:3128".to_vec());
            let error = Proxy::of_environment(|name| (name == "https_proxy").then(|| latin.clone())).err().unwrap();
            assert!(error.to_string().contains("https_proxy") && error.to_string().contains("UTF-8"), "{error}");
        }
    }

    #[test]
    fn what_curl_takes_is_taken_as_it_was_meant() {
        let cases = [
            ("proxy:3128", "proxy:3128", "http", None),
            ("PROXY.Corp.Example:3128/", "proxy.corp.example:3128", "http", None),
            ("user:pass@proxy:3128", "proxy:3128", "http", Some(("user", "pass"))),
            ("HTTP://user@10.0.0.1:80/", "10.0.0.1:80", "http", Some(("user", ""))),
            ("https://proxy", "proxy:443", "https", None),
            ("http://proxy", "proxy:80", "http", None),
            ("http://[::1]", "[::1]:80", "http", None),
            ("http://corp%5Cuser:p%40s%23%2F%25%3A@[::1]:8080", "[::1]:8080", "http", Some(("corp\\user", "p@s#/%:"))),
            ("http://user:pa:ss@proxy:1", "proxy:1", "http", Some(("user", "pa:ss"))),
            ("http://user:pä'$&\"ß@proxy_1:1", "proxy_1:1", "http", Some(("user", "pä'$&\"ß"))),
        ];
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
        for (value, name, scheme, user) in cases {
            let proxy = of(&[("HTTPS_PROXY", value)]).unwrap().unwrap();
            assert_eq!((proxy.name(), proxy.url.scheme()), (name, scheme), "{value}");
            let (user, password) = user.unwrap_or_default();
            assert_eq!(decoded(proxy.url.username()), user);
            assert_eq!(decoded(proxy.url.password().unwrap_or_default()), password);
        }
    }

    #[test]
    fn the_first_variable_that_is_not_empty_counts_and_those_of_http_do_not() {
        let named = |variables: &[(&str, &str)]| of(variables).unwrap().map(|proxy| proxy.name);
        assert_eq!(named(&[]), None);
        assert_eq!(named(&[("HTTPS_PROXY", ""), ("all_proxy", "")]), None);
        assert_eq!(named(&[("HTTPS_PROXY", ""), ("https_proxy", "a:1"), ("ALL_PROXY", "b:1")]), Some("a:1".into()));
        assert_eq!(named(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b c"), ("ALL_PROXY", "b:x")]), Some("a:1".into()));
        assert_eq!(named(&[("all_proxy", "c:1"), ("REQUEST_METHOD", "GET")]), Some("c:1".into()));
        // No host of ours is reached by these.
        assert_eq!(named(&[("HTTP_PROXY", "http:/a"), ("http_proxy", "a b")]), None);
        // With no host to be reached by it, it need not be one.
        assert_eq!(named(&[("HTTPS_PROXY", "http:/a"), ("NO_PROXY", "*")]), None);
    }

    #[test]
    fn no_proxy_is_read_as_curl_and_the_sdks_read_it() {
        let host = "https://api.mypurecloud.de";
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "mypurecloud.de",
                &[host, "https://mypurecloud.de", "https://API.MyPureCloud.DE"],
                &["https://notmypurecloud.de", "https://mypurecloud.de.example"],
            ),
            (".mypurecloud.de", &[host], &["https://notmypurecloud.de"]),
            (
                "*.mypurecloud.de",
                &[host, "https://a.b.mypurecloud.de"],
                &["https://notmypurecloud.de", "https://api.mypurecloud.ie"],
            ),
            ("*mypurecloud.de", &[host], &["https://api.mypurecloud.ie"]),
            ("API.MYPURECLOUD.DE", &[host], &["https://login.mypurecloud.de"]),
            ("mypurecloud.de.", &[host], &[]),
            ("api.mypurecloud.de:443", &[host], &["https://api.mypurecloud.de:8443", "https://login.mypurecloud.de"]),
            (".mypurecloud.de:8443", &["https://api.mypurecloud.de:8443"], &[host]),
            ("*:8443", &["https://api.mypurecloud.de:8443"], &[host]),
            ("localhost ,\t.corp.example , mypurecloud.de", &[host, "https://gw.corp.example"], &["https://example"]),
            ("localhost .mypurecloud.de", &[host], &["https://api.mypurecloud.ie"]),
            ("\"localhost,.mypurecloud.de\"", &[host], &[]),
            ("https://api.mypurecloud.de/", &[host], &["https://login.mypurecloud.de"]),
            (
                "10.0.0.0/8,192.168.1.7",
                &["https://10.9.8.7", "https://192.168.1.7:8443"],
                &["https://11.0.0.1", "https://192.168.1.8", host],
            ),
            ("10.1.2.3:443", &["https://10.1.2.3"], &["https://10.1.2.3:8443"]),
            (
                "fd00::/8,[2001:db8::1]",
                &["https://[fd00::1]", "https://[2001:db8::1]:8443"],
                &["https://[2001:db8::2]"],
            ),
            ("[2001:db8::1]:443", &["https://[2001:db8::1]"], &["https://[2001:db8::1]:8443"]),
            (",, ,*.,:443,host:port,.", &[], &[host, "https://host"]),
        ];
        for (list, direct, by_proxy) in cases {
            for name in EXCEPTIONS {
                let proxy = of(&[("HTTPS_PROXY", "proxy:3128"), (name, list)]).unwrap().unwrap();
                assert!(direct.iter().all(|host| !proxy.is_for(&url(host))), "{list}: {:?}", proxy.exceptions);
                assert!(by_proxy.iter().all(|host| proxy.is_for(&url(host))), "{list}: {:?}", proxy.exceptions);
            }
        }
        assert!(of(&[("HTTPS_PROXY", "proxy:3128"), ("NO_PROXY", "localhost, * ")]).unwrap().is_none());
        // The builder's is for all hosts.
        assert!(Proxy::given("proxy:3128").unwrap().is_for(&url(host)));
    }
}
