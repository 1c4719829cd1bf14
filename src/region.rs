//! Where a Genesys Cloud organisation lives: its api, login and upload hosts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

use crate::error::Error;

/// A Genesys Cloud region: the hosts that calls, logins and uploads go to.
///
/// Parsed from the AWS name (also as the official SDKs write it) or from the domain, or an address below it:
///
/// ```
/// use genesys_scripts::Region;
///
/// let region: Region = "eu-central-1".parse()?;
/// assert_eq!(region, Region::EU_CENTRAL_1);
/// assert_eq!(region, "eu_central_1".parse()?);
/// assert_eq!(region, "mypurecloud.de".parse()?);
/// assert_eq!(region, "https://login.mypurecloud.de".parse()?);
/// assert_eq!(region.api_url(), "https://api.mypurecloud.de");
/// # Ok::<(), genesys_scripts::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Region(Hosts);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Hosts {
    Public { name: &'static str, domain: &'static str },
    Custom(Box<Urls>),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Urls {
    api: Url,
    login: Url,
    upload: Url,
}

macro_rules! regions {
    ($($constant:ident $name:literal $domain:literal)*) => {
        impl Region {
            $(
                #[doc = concat!("`", $name, "`, domain `", $domain, "`.")]
                pub const $constant: Region = Region(Hosts::Public { name: $name, domain: $domain });
            )*

            /// The 18 public regions.
            pub const ALL: &'static [Region] = &[$(Region::$constant),*];
        }
    };
}

regions! {
    US_EAST_1 "us-east-1" "mypurecloud.com"
    EU_WEST_1 "eu-west-1" "mypurecloud.ie"
    AP_SOUTHEAST_2 "ap-southeast-2" "mypurecloud.com.au"
    AP_NORTHEAST_1 "ap-northeast-1" "mypurecloud.jp"
    EU_CENTRAL_1 "eu-central-1" "mypurecloud.de"
    US_WEST_2 "us-west-2" "usw2.pure.cloud"
    CA_CENTRAL_1 "ca-central-1" "cac1.pure.cloud"
    AP_NORTHEAST_2 "ap-northeast-2" "apne2.pure.cloud"
    EU_WEST_2 "eu-west-2" "euw2.pure.cloud"
    AP_SOUTH_1 "ap-south-1" "aps1.pure.cloud"
    US_EAST_2 "us-east-2" "use2.us-gov-pure.cloud"
    SA_EAST_1 "sa-east-1" "sae1.pure.cloud"
    ME_CENTRAL_1 "me-central-1" "mec1.pure.cloud"
    AP_NORTHEAST_3 "ap-northeast-3" "apne3.pure.cloud"
    EU_CENTRAL_2 "eu-central-2" "euc2.pure.cloud"
    MX_CENTRAL_1 "mx-central-1" "mxc1.pure.cloud"
    AP_SOUTHEAST_1 "ap-southeast-1" "apse1.pure.cloud"
    EUSC_DE_EAST_1 "eusc-de-east-1" "edee1.eusc-pure.cloud"
}

impl Region {
    /// Hosts of your own: a gateway before Genesys Cloud, or a simulator.
    ///
    /// Each URL is a base: scheme, host, optional port and optional path prefix. It must be
    /// `https`, or `http` on a loopback host (`127.0.0.0/8`, `[::1]`, `localhost`). Loopback hosts
    /// are never reached through a proxy.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a URL that does not parse,
    /// is not a base, carries a user name, password, query or fragment, would send tokens in clear, or ends in a path that the
    /// client adds itself (`/api/v2`, `/oauth/token`, `/uploads/v2/scripter`). The message has the base without it. `/api` and
    /// `/login` are taken for a gateway's prefixes only where the api and login URLs have different ones.
    ///
    /// ```
    /// use genesys_scripts::Region;
    ///
    /// let here = "http://127.0.0.1:8085";
    /// assert!(Region::custom(here, here, here).is_ok());
    /// assert!(Region::custom("http://api.example.com", here, here).is_err());
    /// ```
    pub fn custom(api: &str, login: &str, upload: &str) -> Result<Self, Error> {
        let (api, login, upload) = (base_url("api", api)?, base_url("login", login)?, base_url("upload", upload)?);
        let prefixed = ![api.path(), login.path()].contains(&"/") && api.path() != login.path();
        for (role, url) in [("api", &api), ("login", &login), ("upload", &upload)] {
            refuse_route(role, url, prefixed)?;
        }
        Ok(Self(Hosts::Custom(Box::new(Urls { api, login, upload }))))
    }

    /// The base URL of the platform API, without a trailing slash.
    #[must_use]
    pub fn api_url(&self) -> String {
        self.url_of("api")
    }

    /// The base URL of the login service, without a trailing slash.
    #[must_use]
    pub fn login_url(&self) -> String {
        self.url_of("login")
    }

    /// The base URL of the upload service, without a trailing slash.
    #[must_use]
    pub fn upload_url(&self) -> String {
        self.url_of("upload")
    }

    pub(crate) fn urls(&self) -> [String; 3] {
        ["api", "login", "upload"].map(|role| self.url_of(role))
    }

    fn url_of(&self, role: &str) -> String {
        let (host, custom): (_, fn(&Urls) -> &Url) = match role {
            "api" => ("api", |urls| &urls.api),
            "login" => ("login", |urls| &urls.login),
            _ => ("apps", |urls| &urls.upload),
        };
        match &self.0 {
            Hosts::Public { domain, .. } => format!("https://{host}.{domain}"),
            Hosts::Custom(urls) => custom(urls).as_str().trim_end_matches('/').to_owned(),
        }
    }

    /// The region whose domain this host is, or is below.
    fn of_host(host: &str) -> Option<&'static Self> {
        let host = host.trim_end_matches('.');
        Self::ALL.iter().find(|region| match region.0 {
            Hosts::Public { domain, .. } => {
                host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Hosts::Custom(_) => false,
        })
    }

    /// Name and domain of what was most likely meant, if anything is like it at all.
    fn closest(text: &str) -> Option<(&'static str, &'static str)> {
        let names = Self::ALL.iter().filter_map(|region| match region.0 {
            Hosts::Public { name, domain } => Some((name, domain)),
            Hosts::Custom(_) => None,
        });
        let alike = |(name, domain): &(&str, &str)| {
            let hosts = ["api", "login", "apps"]
                .map(|host| strsim::normalized_damerau_levenshtein(text, &format!("{host}.{domain}")));
            let plain = [name, domain].map(|one| strsim::normalized_damerau_levenshtein(text, one));
            hosts.into_iter().chain(plain).fold(0.0, f64::max)
        };
        names
            .map(|one| (alike(&one), one))
            .filter(|(alike, _)| *alike > 0.6)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, one)| one)
    }
}

/// Where the routes begin that the client itself adds to a base.
const ROUTES: [&str; 3] = ["/api/v2", "/oauth", "/uploads"];

/// An address as it is documented, or as the service's own pages have it, is no base: its path would come twice.
fn refuse_route(role: &str, url: &Url, is_prefixed: bool) -> Result<(), Error> {
    let path = url.path().trim_end_matches('/');
    let here = format!("https://{}", url.host_str().unwrap_or_default());
    if let Some(region) = Region::ALL.iter().find(|region| region.urls().contains(&here)) {
        // A host of the service's own has one role, and no prefix.
        let right = region.url_of(role);
        return match right == here && path.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid_input(format!(
                "the {role} URL of the region {region} is {right}; parse the region for all three"
            ))),
        };
    }
    let lower = path.to_ascii_lowercase();
    let begins = |route: &&str| format!("{lower}/").find(&format!("{route}/"));
    let ends = |word: &&str| Some(lower.strip_suffix(*word)?.len()).filter(|_| !is_prefixed);
    let Some(at) = ROUTES.iter().find_map(begins).or_else(|| ["/api", "/login"].iter().find_map(ends)) else {
        return Ok(());
    };
    let (prefix, route) = path.split_at_checked(at).unwrap_or((path, ""));
    let mut base = url.clone();
    base.set_path(prefix);
    let base = base.as_str().trim_end_matches('/');
    let what = format!("the {role} URL holds {route}, and the client adds the routes itself: give {base}");
    Err(Error::invalid_input(what))
}

/// Parses and checks a base URL.
pub(crate) fn base_url(role: &str, text: &str) -> Result<Url, Error> {
    let refuse = |why: &str| Error::invalid_input(format!("the {role} URL {why}"));
    if !text.contains("://") {
        return Err(refuse("has no scheme: begin it with https://"));
    }
    let url = Url::parse(text).map_err(|error| refuse(&format!("does not parse: {error}")))?;
    if !url.has_host() {
        return Err(refuse("has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("carries a user name or password; give credentials to the agent instead"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("carries a query or a fragment; give only scheme, host, port and path prefix"));
    }
    // `url` takes hosts, like `a{b`, that the HTTP layer refuses with every request.
    if url.as_str().parse::<http::Uri>().is_err() {
        return Err(refuse("holds characters that no request can carry"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(refuse("is http on a host that is not loopback: tokens would travel in clear; use https")),
        _ => Err(refuse("is neither https nor http")),
    }
}

/// The host's address, where it is a literal one. Of http(s) URLs it is normalised already: `127.1` and `0x7f.1` read `127.0.0.1`.
pub(crate) fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Whether the host is this machine, by its literal address or the name `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || address(url).is_some_and(|address| address.is_loopback())
}

/// Whether the host is this machine or one of a private network, by its literal address: no public service is there.
pub(crate) fn is_private(url: &Url) -> bool {
    let Some(address) = address(url).map(|address| address.to_canonical()) else {
        return url.host_str().is_some_and(|host| host == "localhost" || host.ends_with(".localhost"));
    };
    let is_private = match address {
        // 100.64.0.0/10 is shared by a carrier's customers (RFC 6598).
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || matches!(v4.octets(), [100, 64..128, ..]),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    is_private || address.is_unspecified() || address.is_loopback()
}

impl FromStr for Region {
    type Err = Error;

    /// From the AWS name (`us-east-1`, as the official SDKs write it `us_east_1`), the domain (`mypurecloud.com`), or an
    /// address below it (`https://api.mypurecloud.com`), in any case. What is none of these is refused, with what is most like it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let letters = |text: &str| text.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let named = |region: &&Self| matches!(region.0, Hosts::Public { name, .. } if letters(name) == letters(text));
        let address = text.trim().trim_matches(['"', '\'']);
        let url = match address.contains("://") {
            true => Url::parse(address),
            false => Url::parse(&format!("https://{address}")),
        };
        // With a user name before it, what looks like the host is not.
        let host = url.ok().filter(|url| url.username().is_empty()).and_then(|url| url.host_str().map(str::to_owned));
        let region = Self::ALL.iter().find(named).or_else(|| host.as_deref().and_then(Self::of_host));
        region.cloned().ok_or_else(|| {
            let wanted = host.unwrap_or_else(|| address.to_ascii_lowercase());
            let advice = match Self::closest(crate::text::head(&wanted, 100).0) {
                Some((name, domain)) => format!("did you mean {name} ({domain})?"),
                None if address.contains("://") => {
                    "URLs of your own are given to Region::custom, or as api_url, login_url and upload_url of a ClientConfig"
                        .to_owned()
                }
                None => {
                    "name one like us-east-1, or its domain like mypurecloud.com; Region::ALL has them all".to_owned()
                }
            };
            let given = match text.contains('@') {
                false => crate::text::quoted(text),
                true => "what was given (not shown, as it may hold a password)".to_owned(),
            };
            Error::invalid_input(format!("{given} is no Genesys Cloud region; {advice}"))
        })
    }
}

impl fmt::Display for Region {
    /// The AWS name, or the api URL of a custom region.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Hosts::Public { name, .. } => f.write_str(name),
            Hosts::Custom(urls) => f.write_str(urls.api.as_str()),
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_region_parses_from_its_name_and_domain_and_has_three_hosts() {
        assert_eq!(Region::ALL.len(), 18);
        for region in Region::ALL {
            let Hosts::Public { name, domain } = region.0 else { unreachable!() };
            assert_eq!(&name.parse::<Region>().unwrap(), region);
            assert_eq!(&domain.to_uppercase().parse::<Region>().unwrap(), region);
            assert_eq!(region.api_url(), format!("https://api.{domain}"));
            assert_eq!(region.login_url(), format!("https://login.{domain}"));
            assert_eq!(region.upload_url(), format!("https://apps.{domain}"));
            base_url("api", &region.api_url()).unwrap();
        }
    }

    #[test]
    fn a_region_is_read_as_the_official_sdks_and_people_write_it() {
        for region in Region::ALL {
            let Hosts::Public { name, domain } = region.0 else { unreachable!() };
            let shouted = name.to_uppercase();
            let spellings = [
                name.replace('-', "_"),
                name.replace('-', ""),
                format!(" {shouted}\n"),
                format!("\"{name}\""),
                format!("api.{domain}"),
                format!("login.{domain}."),
                format!("APPS.{domain}/"),
                format!("https://api.{domain}"),
                format!("https://login.{domain}/"),
                format!("https://login.{domain}/oauth/token"),
                format!("HTTPS://API.{domain}:443/api/v2/scripts?pageSize=1#x"),
                format!("http://apps.{domain}/directory/#/admin"),
                format!("'https://{domain}'"),
            ];
            for text in spellings {
                assert_eq!(&text.parse::<Region>().unwrap_or_else(|error| unreachable!("{error}")), region);
            }
        }
    }

    #[test]
    fn what_is_no_region_is_refused_with_the_one_that_was_meant() {
        for (text, meant) in [
            ("us-est-1", "us-east-1 (mypurecloud.com)"),
            ("eu_central1_", "eu-central-1"),
            ("eu-centrl-2", "eu-central-2 (euc2.pure.cloud)"),
            ("mypurcloud.de", "eu-central-1 (mypurecloud.de)"),
            ("https://api.mypurecloud.dee/api/v2", "eu-central-1"),
            ("api.usw2.purecloud", "us-west-2"),
            ("login.mypurecloud.jpp", "ap-northeast-1"),
        ] {
            match text.parse::<Region>() {
                Ok(region) => assert_eq!(region.to_string(), meant, "{text}"),
                Err(error) => assert!(error.to_string().contains(&format!("did you mean {meant}")), "{error}"),
            }
        }
        for text in [
            "",
            "mars-north-1",
            "https://evil.example/mypurecloud.de",
            "api.mypurecloud.de@evil.example",
            "pure.cloud",
            "x".repeat(10_000).as_str(),
        ] {
            let error = text.parse::<Region>().unwrap_err().to_string();
            assert!(error.contains("is no Genesys Cloud region") && error.len() < 600, "{error}");
        }
        let error = "http://127.0.0.1:8085".parse::<Region>().unwrap_err().to_string();
        assert!(error.contains("Region::custom") && error.contains("api_url"), "{error}");
        let error = "https://me:hunter2@api.mypurecloud.de".parse::<Region>().unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("is no Genesys Cloud region"), "{error}");
        for text in ["https://api.mypurecloud.de@evil.example", "notmypurecloud.de", "mypurecloud.de.evil.example"] {
            assert!(text.parse::<Region>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_of_a_private_network_is_told_from_a_public_one() {
        let is_private = |host: &str| is_private(&Url::parse(&format!("https://{host}/x")).unwrap());
        for host in [
            "localhost",
            "bucket.localhost",
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "[::1]",
            "[::]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.1.2.3]",
        ] {
            assert!(is_private(host), "{host}");
        }
        for host in [
            "bucket.s3.amazonaws.com",
            "localhost.example",
            "mylocalhost",
            "8.8.8.8",
            "11.1.2.3",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "99.100.0.1",
            "101.64.0.1",
            "203.0.113.100",
            "[2600:1f14::1]",
            "[::ffff:8.8.8.8]",
        ] {
            assert!(!is_private(host), "{host}");
        }
    }

    #[test]
    fn a_base_that_holds_a_route_is_refused_with_the_base_that_is_meant() {
        for (url, meant) in [
            ("https://gw.example.com/api/v2", "https://gw.example.com"),
            ("https://gw.example.com/API/V2/", "https://gw.example.com"),
            ("https://gw.example.com:8443/genesys/api/v2/scripts", "https://gw.example.com:8443/genesys"),
            ("https://gw.example.com/api", "https://gw.example.com"),
            ("https://gw.example.com/x/api/", "https://gw.example.com/x"),
            ("https://gw.example.com/oauth/token", "https://gw.example.com"),
            ("https://gw.example.com/y/oauth/authorize/", "https://gw.example.com/y"),
            ("https://gw.example.com/login", "https://gw.example.com"),
            ("http://127.0.0.1:8085/uploads/v2/scripter", "http://127.0.0.1:8085"),
        ] {
            let good = "https://other.example.com";
            for (role, region) in [
                ("api", Region::custom(url, good, good)),
                ("login", Region::custom(good, url, good)),
                ("upload", Region::custom(good, good, url)),
            ] {
                let error = region.unwrap_err().to_string();
                assert!(
                    error.contains(&format!("the {role} URL")) && error.contains(&format!(": give {meant}")),
                    "{error}"
                );
                assert!(!error.contains(&format!("give {meant}/")), "{error}");
            }
        }
        for url in [
            "https://gw.example.com/api/v3",
            "https://gw.example.com/apis",
            "https://gw.example.com/v2/my-login",
            "https://gw.example.com/my/api/v20",
        ] {
            Region::custom(url, url, url).unwrap();
        }
        // A gateway that has a prefix for each of the three.
        let gateway =
            Region::custom("https://gw.example.com/api", "https://gw.example.com/login", "https://gw.example.com/apps");
        assert_eq!(gateway.unwrap().login_url(), "https://gw.example.com/login");
    }

    #[test]
    fn a_host_of_the_service_is_taken_for_what_it_is_alone() {
        let [api, login, apps] = Region::EU_CENTRAL_1.urls();
        Region::custom(&api, &login, &apps).unwrap();
        for (urls, right) in [
            (
                [&*format!("{api}/api/v2"), &login, &apps],
                "api URL of the region eu-central-1 is https://api.mypurecloud.de",
            ),
            ([&api, &api, &apps], "login URL of the region eu-central-1 is https://login.mypurecloud.de"),
            ([&api, &format!("{login}/oauth/token"), &apps], "is https://login.mypurecloud.de"),
            ([&api, &login, &format!("{apps}/uploads/v2/scripter")], "is https://apps.mypurecloud.de"),
            ([&format!("{apps}/directory"), &login, &apps], "is https://api.mypurecloud.de"),
        ] {
            let [api, login, apps] = urls;
            let error = Region::custom(api, login, apps).unwrap_err().to_string();
            assert!(error.contains(right), "{error}");
        }
    }

    #[test]
    fn a_custom_url_is_https_or_loopback_and_carries_nothing_else() {
        let ok = [
            "https://gw.example.com/genesys/",
            "http://127.0.0.1:1",
            "http://127.9.9.9",
            "http://[::1]:80",
            "http://LOCALHOST:8",
        ];
        for url in ok {
            assert!(Region::custom(url, url, url).is_ok(), "{url}");
        }
        let refused = [
            "",
            "api.example.com",
            "http://api.example.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "https://user:pass@example.com",
            "https://example.com/?a=b",
            "https://example.com/#x",
            "ftp://127.0.0.1/",
            "data:text/plain,x",
            "http://10.0.0.1",
            "http://0.0.0.0",
            "http://evillocalhost",
            "http://localhost.evil.example",
            "http://127.0.0.1.nip.example",
            "https://a{b.example.com",
        ];
        for url in refused {
            assert!(Region::custom(url, url, url).is_err(), "{url}");
        }
        for (url, why) in [
            ("https://user@example.com", "carries a user name or password"),
            ("https://:pass@example.com", "carries a user name or password"),
            ("http://example.com", "tokens would travel in clear"),
            ("ftp://127.0.0.1/", "is neither https nor http"),
            ("file:///etc", "has no host"),
            ("data:x://y", "has no host"),
            ("unix:/run/gw.sock?x=://", "has no host"),
        ] {
            let error = Region::custom(url, url, url).unwrap_err().to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
        let prefixed = Region::custom(ok[0], ok[0], ok[0]).unwrap();
        assert_eq!(prefixed.api_url(), "https://gw.example.com/genesys");
    }
}
