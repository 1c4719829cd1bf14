//! Where a Genesys Cloud organisation lives: its api, login and upload hosts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

use crate::error::Error;

/// A Genesys Cloud region: the hosts that calls, logins and uploads go to.
///
/// Parsed from the AWS name or from the domain:
///
/// ```
/// use genesys_scripts::Region;
///
/// let region: Region = "eu-central-1".parse()?;
/// assert_eq!(region, Region::EU_CENTRAL_1);
/// assert_eq!(region, "mypurecloud.de".parse()?);
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
    /// is not a base, carries a user name, password, query or fragment, or would send tokens in clear.
    ///
    /// ```
    /// use genesys_scripts::Region;
    ///
    /// let here = "http://127.0.0.1:8085";
    /// assert!(Region::custom(here, here, here).is_ok());
    /// assert!(Region::custom("http://api.example.com", here, here).is_err());
    /// ```
    pub fn custom(api: &str, login: &str, upload: &str) -> Result<Self, Error> {
        Ok(Self(Hosts::Custom(Box::new(Urls {
            api: base_url("api", api)?,
            login: base_url("login", login)?,
            upload: base_url("upload", upload)?,
        }))))
    }

    /// The base URL of the platform API, without a trailing slash.
    #[must_use]
    pub fn api_url(&self) -> String {
        self.host_url("api", |urls| &urls.api)
    }

    /// The base URL of the login service, without a trailing slash.
    #[must_use]
    pub fn login_url(&self) -> String {
        self.host_url("login", |urls| &urls.login)
    }

    /// The base URL of the upload service, without a trailing slash.
    #[must_use]
    pub fn upload_url(&self) -> String {
        self.host_url("apps", |urls| &urls.upload)
    }

    fn host_url(&self, host: &str, custom: impl Fn(&Urls) -> &Url) -> String {
        match &self.0 {
            Hosts::Public { domain, .. } => format!("https://{host}.{domain}"),
            Hosts::Custom(urls) => custom(urls).as_str().trim_end_matches('/').to_owned(),
        }
    }
}

/// Parses and checks a base URL.
pub(crate) fn base_url(role: &str, text: &str) -> Result<Url, Error> {
    let refuse = |why: &str| Error::invalid_input(format!("the {role} URL {why}"));
    let url = Url::parse(text).map_err(|error| refuse(&format!("does not parse: {error}")))?;
    if !url.has_host() || url.cannot_be_a_base() {
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

/// Whether the host is this machine, by its literal address or the name `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    // Of http(s) URLs `host_str` is already normalised: `127.1` and `0x7f.1` read `127.0.0.1`.
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the host is this machine or one of a private network, by its literal address: no public service is there.
pub(crate) fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            let [first, second, ..] = address.octets();
            // 100.64.0.0/10 is shared by a carrier's customers (RFC 6598).
            let shared = first == 100 && (64..128).contains(&second);
            address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_loopback()
                || shared
        }
        Ok(IpAddr::V6(address)) => {
            address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_loopback()
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

impl FromStr for Region {
    type Err = Error;

    /// From the AWS name (`us-east-1`) or the domain (`mypurecloud.com`), in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wanted = text.trim();
        Self::ALL
            .iter()
            .find(|region| match region.0 {
                Hosts::Public { name, domain } => {
                    wanted.eq_ignore_ascii_case(name) || wanted.eq_ignore_ascii_case(domain)
                }
                Hosts::Custom(_) => false,
            })
            .cloned()
            .ok_or_else(|| {
                Error::invalid_input(format!(
                    "{} is no Genesys Cloud region; name one like us-east-1, or its domain like mypurecloud.com",
                    crate::text::quoted(text)
                ))
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
        assert!("mars-north-1".parse::<Region>().is_err());
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
        let prefixed = Region::custom(ok[0], ok[0], ok[0]).unwrap();
        assert_eq!(prefixed.api_url(), "https://gw.example.com/genesys");
    }
}
