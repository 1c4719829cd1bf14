//! A client's configuration as data: from the environment, or inside a service's own TOML, YAML or JSON.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use crate::auth::{Credentials, check_text};
#[cfg(feature = "cache")]
use crate::cache::CachePolicy;
use crate::client::{Client, ClientBuilder};
use crate::error::Error;
use crate::region::Region;
use crate::resilience::Resilience;
use crate::retry::RetryPolicy;
use crate::text::quoted;

/// A value of a configuration, and how it is written there.
trait Setting: Sized {
    /// What a file holds.
    type Written: DeserializeOwned;

    /// Whether no error may show it.
    const IS_SECRET: bool = false;

    fn read(written: Self::Written) -> Result<Self, String>;

    /// What is wrong with it where it is zero.
    fn refused_as_zero(&self) -> Option<&'static str> {
        None
    }
}

/// Of these zero says something: that it is switched off.
const MAY_BE_ZERO: [&str; 6] =
    ["initial_backoff", "max_backoff", "retry_after_cap", "max_waiting", "time_to_live", "stale_if_error"];

/// Settings that are written as they are; of some 0 is refused, as this says.
macro_rules! settings {
    ($($kind:ty $(: $refused:literal)?),*) => {
        $(impl Setting for $kind {
            type Written = Self;

            fn read(written: Self) -> Result<Self, String> {
                Ok(written)
            }

            $(fn refused_as_zero(&self) -> Option<&'static str> {
                (*self == 0).then_some($refused)
            })?
        })*
    };
}

settings! { String, bool, RetryConfig }
settings! { u32: "0 is none at all; write 1 or more", usize: "0 is none at all; write 1 or more" }
#[cfg(feature = "cache")]
settings! { u64, CacheConfig }

impl Setting for SecretString {
    type Written = Self;

    const IS_SECRET: bool = true;

    fn read(written: Self) -> Result<Self, String> {
        Ok(written)
    }
}

impl Setting for Duration {
    type Written = String;

    /// Like `15s`, `1m 30s`, `250ms`.
    fn read(written: String) -> Result<Self, String> {
        match humantime::parse_duration(&written) {
            Ok(duration) => Ok(duration),
            Err(_) => {
                Err(format!("{} is no duration; write one with its unit, like \"15s\" or \"250ms\"", quoted(&written)))
            }
        }
    }

    fn refused_as_zero(&self) -> Option<&'static str> {
        self.is_zero().then_some("0 leaves no time; write one like \"15s\"")
    }
}

impl Setting for Region {
    type Written = String;

    /// Somebody may have written a URL with a password.
    const IS_SECRET: bool = true;

    fn read(written: String) -> Result<Self, String> {
        written.parse().map_err(|error: Error| error.to_string())
    }
}

impl Setting for f32 {
    type Written = Self;

    fn read(written: Self) -> Result<Self, String> {
        if written.is_finite() && written >= 1.0 { Ok(written) } else { Err(format!("{written} is below 1")) }
    }
}

/// A struct of optional settings whose `Deserialize` names the key of whatever is wrong, in every file format.
macro_rules! config {
    ($(#[$about:meta])* $name:ident { $($(#[doc = $doc:literal])* $(#[cfg($($cfg:tt)*)])? $key:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[doc = $doc])* $(#[cfg($($cfg)*)])? pub $key: Option<$kind>,)*
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Keys;

                impl<'de> Visitor<'de> for Keys {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a table of settings")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        const KNOWN: &[&str] = &[$($(#[cfg($($cfg)*)])? stringify!($key)),*];
                        let mut config = $name::default();
                        while let Some(key) = map.next_key::<String>()? {
                            match key.as_str() {
                                $($(#[cfg($($cfg)*)])? stringify!($key) => set(&mut config.$key, &key, &mut map)?,)*
                                _ => return Err(unknown(&key, KNOWN)),
                            }
                        }
                        Ok(config)
                    }
                }

                deserializer.deserialize_map(Keys)
            }
        }
    };
}

fn set<'de, T: Setting, A: MapAccess<'de>>(slot: &mut Option<T>, key: &str, map: &mut A) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::custom(format!("{key}: it is given twice")));
    }
    *slot = map.next_value_seed(OfKey(key, PhantomData))?.map_err(A::Error::custom)?;
    Ok(())
}

/// The value of a key. What is wrong with it is an error while it is read, since the format then says at which place of the file that
/// is. It may show the place, too, so what is wrong with a secret is given back and told without.
struct OfKey<'k, T>(&'k str, PhantomData<T>);

impl<'de, T: Setting> DeserializeSeed<'de> for OfKey<'_, T> {
    type Value = Result<Option<T>, String>;

    fn deserialize<D: Deserializer<'de>>(self, file: D) -> Result<Self::Value, D::Error> {
        let Self(key, _) = self;
        let written = Option::<T::Written>::deserialize(file).map_err(|error| error.to_string());
        let value = written.and_then(|written| written.map(T::read).transpose());
        let value = value.and_then(|value| match value.as_ref().and_then(T::refused_as_zero) {
            Some(why) if !MAY_BE_ZERO.contains(&key) => Err(why.to_owned()),
            _ => Ok(value),
        });
        match value.map_err(|why| format!("{key}: {why}")) {
            Err(why) if !T::IS_SECRET => Err(D::Error::custom(why)),
            told => Ok(told),
        }
    }
}

/// It is told without its place: a secret may stand there under a wrong name.
fn unknown<E: serde::de::Error>(key: &str, known: &[&str]) -> E {
    E::custom(format!("{} is no setting; there are {}", quoted(key), known.join(", ")))
}

config! {
    /// Settings of a client as a service's own configuration file holds them, in TOML, YAML, JSON or whatever else serde reads.
    ///
    /// What is left out has its default: see the methods of [`ClientBuilder`] of the same names. Durations are text with a unit:
    /// `"15s"`, `"250ms"`, `"1m 30s"`. An unknown key, a value of another kind or one that makes no sense is an error which names
    /// the key and what would be right. Credentials are apart, as they belong to agents: [`Credentials`].
    ///
    /// An error of the crate `toml` also shows a line of the file, the first one where it knows no place, and so what secret that line
    /// holds, a proxy's password like: log its `message()`.
    ///
    /// ```
    /// use genesys_scripts::{Client, ClientConfig};
    ///
    /// let config: ClientConfig = serde_json::from_str(
    ///     r#"{"region": "eu-central-1", "call_timeout": "30s", "retry": {"attempts": 4, "max_backoff": "2s"}}"#,
    /// )?;
    /// let client: Client = config.builder()?.build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ClientConfig {
        /// The region, by its AWS name or its domain. This, or the three URLs.
        region: Region,
        /// Base URL of the platform API, with `login_url` and `upload_url`: a gateway, or the simulator. As [`Region::custom`].
        api_url: String,
        /// Base URL of the login service.
        login_url: String,
        /// Base URL of the upload service.
        upload_url: String,
        /// [`ClientBuilder::call_timeout`].
        call_timeout: Duration,
        /// [`ClientBuilder::attempt_timeout`].
        attempt_timeout: Duration,
        /// [`ClientBuilder::connect_timeout`].
        connect_timeout: Duration,
        /// [`ClientBuilder::login_timeout`].
        login_timeout: Duration,
        /// [`ClientBuilder::login_throttle_timeout`].
        login_throttle_timeout: Duration,
        /// [`ClientBuilder::pool_idle_timeout`].
        pool_idle_timeout: Duration,
        /// [`ClientBuilder::max_in_flight`].
        max_in_flight: usize,
        /// [`ClientBuilder::max_waiting`].
        max_waiting: usize,
        /// [`ClientBuilder::max_body_bytes`].
        max_body_bytes: usize,
        /// [`ClientBuilder::proxy`]; it may hold a password.
        proxy: SecretString,
        /// [`ClientBuilder::user_agent`].
        user_agent: String,
        /// Whether compressed answers are asked for. Default yes.
        gzip: bool,
        /// Whether the client learns from failures and holds calls back for it. Default yes; [`Resilience`].
        resilience: bool,
        /// How failures are retried.
        retry: RetryConfig,
        /// Keeps scripts: [`ClientBuilder::cache`]. An empty table takes the defaults.
        #[cfg(feature = "cache")]
        cache: CacheConfig,
    }
}

config! {
    /// The fields of [`RetryPolicy`], as a file holds them.
    RetryConfig {
        /// [`RetryPolicy::attempts`].
        attempts: u32,
        /// [`RetryPolicy::initial_backoff`].
        initial_backoff: Duration,
        /// [`RetryPolicy::factor`].
        factor: f32,
        /// [`RetryPolicy::max_backoff`].
        max_backoff: Duration,
        /// [`RetryPolicy::retry_after_cap`].
        retry_after_cap: Duration,
        /// [`RetryPolicy::ride_out_outages`].
        ride_out_outages: bool,
    }
}

#[cfg(feature = "cache")]
config! {
    /// The fields of [`CachePolicy`], as a file holds them.
    CacheConfig {
        /// [`CachePolicy::capacity`].
        capacity: u64,
        /// [`CachePolicy::time_to_live`].
        time_to_live: Duration,
        /// [`CachePolicy::stale_if_error`].
        stale_if_error: Duration,
    }
}

impl ClientConfig {
    /// The settings that the environment holds, by the names that the Terraform provider, CX as Code and the `gc` CLI read:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `GENESYSCLOUD_REGION` | the region, by its AWS name or its domain. Needed, unless there is a gateway |
    /// | `GENESYSCLOUD_GATEWAY_HOST`, `…_PORT`, `…_PROTOCOL` | a gateway in front of all three hosts; `https` and its port where not said |
    /// | `GENESYSCLOUD_GATEWAY_PATH_NAME`, `…_PATH_VALUE` | the path before the routes of `api` or of `login`; it does not end in one of these words |
    /// | `GENESYSCLOUD_PROXY_HOST`, `…_PORT`, `…_PROTOCOL` | a proxy; `http` where not said |
    /// | `GENESYSCLOUD_PROXY_AUTH_USERNAME`, `…_AUTH_PASSWORD` | what the proxy wants |
    ///
    /// An empty variable is one that is not set. Without a proxy here, `HTTPS_PROXY` and `NO_PROXY` hold as ever. Credentials
    /// are read by [`Credentials::from_env`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), with the variable's name, when one is missing or cannot be
    /// used. There is no default region: a login in the wrong one fails like a wrong secret. Credentials for a gateway
    /// (`GENESYSCLOUD_GATEWAY_AUTH_…`) are refused, as they would take the place of the agent's token.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(&environment)
    }

    fn from_variables(variable: &dyn Fn(&str) -> Result<Option<String>, Error>) -> Result<Self, Error> {
        let mut config = Self { proxy: proxy(variable)?.map(SecretString::from), ..Self::default() };
        if let Some((api, login)) = gateway(variable)? {
            config.upload_url = Some(api.clone());
            config.api_url = Some(api);
            config.login_url = Some(login);
            return Ok(config);
        }
        let Some(region) = variable("GENESYSCLOUD_REGION")? else {
            return Err(Error::invalid_input(
                "GENESYSCLOUD_REGION is not set; name the organisation's region, like us-east-1 or mypurecloud.com",
            ));
        };
        config.region = Some(Region::read(region).map_err(|why| of_variable("GENESYSCLOUD_REGION", &why))?);
        Ok(config)
    }

    /// A builder with these settings, for what a file does not hold: certificates, middlewares.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when there is neither a region nor all of the three URLs, or
    /// both, or a URL is none; it names the key.
    pub fn builder(&self) -> Result<ClientBuilder, Error> {
        let mut builder = Client::builder(self.place()?).retry(self.retry_policy());
        macro_rules! apply {
            ($($key:ident)*) => {
                $(if let Some(value) = self.$key.clone() {
                    builder = builder.$key(value);
                })*
            };
        }
        apply! {
            call_timeout attempt_timeout connect_timeout login_timeout login_throttle_timeout pool_idle_timeout
            max_in_flight max_waiting max_body_bytes user_agent
        }
        if self.user_agent.as_deref().is_some_and(|agent| http::HeaderValue::try_from(agent).is_err()) {
            return Err(Error::invalid_input("user_agent holds characters that no header can carry"));
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.expose_secret());
        }
        if self.gzip == Some(false) {
            builder = builder.without_gzip();
        }
        if self.resilience == Some(false) {
            builder = builder.resilience(Resilience::off());
        }
        #[cfg(feature = "cache")]
        if let Some(cache) = &self.cache {
            builder = builder.cache(cache.policy());
        }
        Ok(builder)
    }

    /// The place it names: its region, or that of its URLs. For [`Authorization::begin`](crate::Authorization::begin).
    ///
    /// # Errors
    ///
    /// As for [`builder`](Self::builder).
    pub fn place(&self) -> Result<Region, Error> {
        let urls = [("api_url", &self.api_url), ("login_url", &self.login_url), ("upload_url", &self.upload_url)];
        let missing: Vec<&str> = urls.iter().filter(|(_, url)| url.is_none()).map(|(key, _)| *key).collect();
        match (&self.region, urls) {
            (Some(region), _) if missing.len() == urls.len() => Ok(region.clone()),
            (Some(_), _) => {
                Err(Error::invalid_input("region and the URLs of a place of its own are both given; give one of them"))
            }
            (None, [(_, Some(api)), (_, Some(login)), (_, Some(upload))]) => Region::custom(api, login, upload),
            (None, _) if missing.len() == urls.len() => {
                Err(Error::invalid_input("region is missing; name it, like \"us-east-1\" or \"mypurecloud.com\""))
            }
            (None, _) => Err(Error::invalid_input(format!(
                "{} {} missing; give all of api_url, login_url and upload_url, or region",
                missing.join(" and "),
                if missing.len() == 1 { "is" } else { "are" }
            ))),
        }
    }

    fn retry_policy(&self) -> RetryPolicy {
        let given = self.retry.clone().unwrap_or_default();
        let default = RetryPolicy::default();
        RetryPolicy {
            attempts: given.attempts.unwrap_or(default.attempts),
            initial_backoff: given.initial_backoff.unwrap_or(default.initial_backoff),
            factor: given.factor.unwrap_or(default.factor),
            max_backoff: given.max_backoff.unwrap_or(default.max_backoff),
            retry_after_cap: given.retry_after_cap.unwrap_or(default.retry_after_cap),
            ride_out_outages: given.ride_out_outages.unwrap_or(default.ride_out_outages),
        }
    }
}

#[cfg(feature = "cache")]
impl CacheConfig {
    fn policy(&self) -> CachePolicy {
        let default = CachePolicy::default();
        CachePolicy {
            capacity: self.capacity.unwrap_or(default.capacity),
            time_to_live: self.time_to_live.unwrap_or(default.time_to_live),
            stale_if_error: self.stale_if_error.unwrap_or(default.stale_if_error),
        }
    }
}

impl Client {
    /// A client for the place that the environment names: [`ClientConfig::from_env`], built.
    ///
    /// # Errors
    ///
    /// As there, and as [`ClientBuilder::build`].
    ///
    /// ```no_run
    /// use genesys_scripts::{Client, Credentials};
    ///
    /// let client = Client::from_env()?;
    /// let agent = client.agent(Credentials::from_env()?);
    /// # Ok::<(), genesys_scripts::Error>(())
    /// ```
    pub fn from_env() -> Result<Self, Error> {
        ClientConfig::from_env()?.builder()?.build()
    }
}

impl Credentials {
    /// The credentials that the environment holds, by the names that the Terraform provider, CX as Code and the `gc` CLI read:
    /// `GENESYSCLOUD_ACCESS_TOKEN`, which comes first, or `GENESYSCLOUD_OAUTHCLIENT_ID` and `GENESYSCLOUD_OAUTHCLIENT_SECRET`.
    /// An empty variable is one that is not set.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), with the variable's name, when one is missing.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(&environment)
    }

    fn from_variables(variable: &dyn Fn(&str) -> Result<Option<String>, Error>) -> Result<Self, Error> {
        const ID: &str = "GENESYSCLOUD_OAUTHCLIENT_ID";
        const SECRET: &str = "GENESYSCLOUD_OAUTHCLIENT_SECRET";
        if let Some(token) = variable("GENESYSCLOUD_ACCESS_TOKEN")? {
            return Ok(Self::access_token(token));
        }
        match (variable(ID)?, variable(SECRET)?) {
            (Some(id), Some(secret)) => Ok(Self::client(id, secret)),
            (Some(_), None) => Err(Error::invalid_input(format!("{SECRET} is not set, although {ID} is"))),
            (None, Some(_)) => Err(Error::invalid_input(format!("{ID} is not set, although {SECRET} is"))),
            (None, None) => Err(Error::invalid_input(format!(
                "there are no credentials in the environment; set {ID} and {SECRET}, or GENESYSCLOUD_ACCESS_TOKEN"
            ))),
        }
    }
}

/// A variable's value; an empty one counts as not set.
fn environment(name: &str) -> Result<Option<String>, Error> {
    match std::env::var_os(name) {
        None => Ok(None),
        Some(value) => match value.into_string() {
            Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
            Err(_) => Err(of_variable(name, "it is not UTF-8")),
        },
    }
}

fn of_variable(name: &str, why: &str) -> Error {
    Error::invalid_input(format!("{name} cannot be used: {why}"))
}

/// `scheme://host:port` of the variables with this prefix, and `userinfo` before the host.
fn origin(
    variable: &dyn Fn(&str) -> Result<Option<String>, Error>,
    prefix: &str,
    scheme: &str,
    userinfo: &str,
) -> Result<Option<String>, Error> {
    let name = |part: &str| format!("{prefix}_{part}");
    let Some(host) = variable(&name("HOST"))? else {
        return match (variable(&name("PORT"))?, variable(&name("PROTOCOL"))?) {
            (None, None) => Ok(None),
            _ => Err(of_variable(&name("HOST"), "it is not set, although its port or protocol is")),
        };
    };
    let host = host.trim();
    if host.contains(['/', '@', '?', '#', ' ']) {
        return Err(of_variable(&name("HOST"), "it is to be a host alone, like gateway.example.com"));
    }
    let scheme = variable(&name("PROTOCOL"))?.map_or_else(|| scheme.to_owned(), |scheme| scheme.trim().to_lowercase());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(of_variable(&name("PROTOCOL"), &format!("{} is neither http nor https", quoted(&scheme))));
    }
    let port = match variable(&name("PORT"))? {
        None => String::new(),
        Some(port) => match port.trim().parse::<u16>() {
            Ok(port) if port > 0 => format!(":{port}"),
            _ => return Err(of_variable(&name("PORT"), &format!("{} is no port from 1 to 65535", quoted(&port)))),
        },
    };
    Ok(Some(format!("{scheme}://{userinfo}{host}{port}")))
}

fn proxy(variable: &dyn Fn(&str) -> Result<Option<String>, Error>) -> Result<Option<String>, Error> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let checked = |name: &'static str| match variable(name)? {
        Some(value) => check_text(name, &value).map(|()| Some(value)).map_err(Error::invalid_input),
        None => Ok(None),
    };
    let user = checked("GENESYSCLOUD_PROXY_AUTH_USERNAME")?;
    let password = checked("GENESYSCLOUD_PROXY_AUTH_PASSWORD")?;
    let userinfo = match (user, password) {
        (Some(user), password) => format!("{}:{}@", encoded(&user), encoded(&password.unwrap_or_default())),
        (None, None) => String::new(),
        (None, Some(_)) => {
            return Err(of_variable("GENESYSCLOUD_PROXY_AUTH_USERNAME", "it is not set, although the password is"));
        }
    };
    origin(variable, "GENESYSCLOUD_PROXY", "http", &userinfo)
}

/// The base URLs of a gateway's API and login.
fn gateway(variable: &dyn Fn(&str) -> Result<Option<String>, Error>) -> Result<Option<(String, String)>, Error> {
    let Some(origin) = origin(variable, "GENESYSCLOUD_GATEWAY", "https", "")? else { return Ok(None) };
    for name in ["GENESYSCLOUD_GATEWAY_AUTH_USERNAME", "GENESYSCLOUD_GATEWAY_AUTH_PASSWORD"] {
        if variable(name)?.is_some() {
            let why = "a gateway's credentials would take the place of the agent's token; let it know its clients by mTLS or address";
            return Err(of_variable(name, why));
        }
    }
    let (mut api, mut login) = (origin.clone(), origin);
    if let Some(path) = variable("GENESYSCLOUD_GATEWAY_PATH_VALUE")? {
        let path = format!("/{}", path.trim().trim_matches('/'));
        if ["/api", "/login"].iter().any(|own| path.to_ascii_lowercase().ends_with(own)) {
            let why = "a path that ends in api or login is taken for the service's own; give the gateway's as api_url, login_url and \
                       upload_url, with a path for both";
            return Err(of_variable("GENESYSCLOUD_GATEWAY_PATH_VALUE", why));
        }
        match variable("GENESYSCLOUD_GATEWAY_PATH_NAME")?.as_deref().map(str::trim) {
            Some("api") => api.push_str(&path),
            Some("login") => login.push_str(&path),
            other => {
                let other = other.unwrap_or_default();
                let why = format!("{} is neither api nor login", quoted(other));
                return Err(of_variable("GENESYSCLOUD_GATEWAY_PATH_NAME", &why));
            }
        }
    }
    for url in [&api, &login] {
        crate::region::base_url("gateway", url)
            .map_err(|error| of_variable("GENESYSCLOUD_GATEWAY_…", &error.to_string()))?;
    }
    Ok(Some((api, login)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn variables(set: Variables<'_>) -> impl Fn(&str) -> Result<Option<String>, Error> {
        let set: Vec<(String, String)> =
            set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        move |name| Ok(set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }

    fn client(set: Variables<'_>) -> Result<Client, Error> {
        ClientConfig::from_variables(&variables(set))?.builder()?.build()
    }

    const REGION: (&str, &str) = ("GENESYSCLOUD_REGION", "mypurecloud.de");

    #[test]
    fn the_environment_of_terraform_and_the_cli_is_read() {
        let config = ClientConfig::from_variables(&variables(&[REGION])).unwrap();
        assert_eq!(config.region, Some(Region::EU_CENTRAL_1));
        client(&[REGION]).unwrap();

        let gateway = [
            ("GENESYSCLOUD_GATEWAY_HOST", "gw.example.com"),
            ("GENESYSCLOUD_GATEWAY_PORT", "8443"),
            ("GENESYSCLOUD_GATEWAY_PATH_NAME", "login"),
            ("GENESYSCLOUD_GATEWAY_PATH_VALUE", "/loginpath"),
        ];
        let config = ClientConfig::from_variables(&variables(&gateway)).unwrap();
        assert_eq!(config.api_url.as_deref(), Some("https://gw.example.com:8443"));
        assert_eq!(config.login_url.as_deref(), Some("https://gw.example.com:8443/loginpath"));
        client(&gateway).unwrap();

        let proxied = [
            REGION,
            ("GENESYSCLOUD_PROXY_HOST", "proxy.example.com"),
            ("GENESYSCLOUD_PROXY_PORT", "3128"),
            ("GENESYSCLOUD_PROXY_AUTH_USERNAME", "john"),
            ("GENESYSCLOUD_PROXY_AUTH_PASSWORD", "p#s@/s"),
        ];
        let config = ClientConfig::from_variables(&variables(&proxied)).unwrap();
        assert_eq!(config.proxy.as_ref().unwrap().expose_secret(), "http://john:p%23s%40%2Fs@proxy.example.com:3128");
        assert!(!format!("{config:?}").contains("p%23s"));
        client(&proxied).unwrap();
    }

    #[test]
    fn an_access_token_comes_before_an_oauth_client() {
        let client = [("GENESYSCLOUD_OAUTHCLIENT_ID", "id"), ("GENESYSCLOUD_OAUTHCLIENT_SECRET", "secret")];
        assert!(matches!(Credentials::from_variables(&variables(&client)), Ok(Credentials::Client(_))));
        let both = [client[0], client[1], ("GENESYSCLOUD_ACCESS_TOKEN", "token")];
        assert!(matches!(Credentials::from_variables(&variables(&both)), Ok(Credentials::AccessToken { .. })));
    }

    fn proxied(password: &'static str) -> [(&'static str, &'static str); 4] {
        [
            REGION,
            ("GENESYSCLOUD_PROXY_HOST", "p"),
            ("GENESYSCLOUD_PROXY_AUTH_USERNAME", "john"),
            ("GENESYSCLOUD_PROXY_AUTH_PASSWORD", password),
        ]
    }

    /// Each with what its error is to name.
    #[test]
    fn a_broken_environment_is_told_by_the_variable() {
        let of_client: &[(Variables, &[&str])] = &[
            (&[], &["GENESYSCLOUD_REGION", "us-east-1"]),
            (&[("GENESYSCLOUD_REGION", "mars-1")], &["GENESYSCLOUD_REGION", "mars-1", "us-east-1"]),
            (
                &[REGION, ("GENESYSCLOUD_PROXY_HOST", "p"), ("GENESYSCLOUD_PROXY_PORT", "x")],
                &["GENESYSCLOUD_PROXY_PORT", "x"],
            ),
            (&[REGION, ("GENESYSCLOUD_PROXY_PORT", "3128")], &["GENESYSCLOUD_PROXY_HOST"]),
            (
                &[REGION, ("GENESYSCLOUD_PROXY_HOST", "p"), ("GENESYSCLOUD_PROXY_PROTOCOL", "socks5")],
                &["GENESYSCLOUD_PROXY_PROTOCOL", "socks5", "http"],
            ),
            (&[REGION, ("GENESYSCLOUD_PROXY_AUTH_PASSWORD", "hush")], &["GENESYSCLOUD_PROXY_AUTH_USERNAME"]),
            (&proxied("hush\n"), &["GENESYSCLOUD_PROXY_AUTH_PASSWORD", "ends with a line end"]),
            (&proxied("\"hush\""), &["GENESYSCLOUD_PROXY_AUTH_PASSWORD", "stands in quotes"]),
            (&proxied("${hush}"), &["GENESYSCLOUD_PROXY_AUTH_PASSWORD", "placeholder"]),
            (
                &[REGION, ("GENESYSCLOUD_PROXY_HOST", "p"), ("GENESYSCLOUD_PROXY_AUTH_USERNAME", "hush ")],
                &["GENESYSCLOUD_PROXY_AUTH_USERNAME", "ends with a blank"],
            ),
            (&[("GENESYSCLOUD_GATEWAY_HOST", "https://gw")], &["GENESYSCLOUD_GATEWAY_HOST", "gateway.example.com"]),
            (
                &[("GENESYSCLOUD_GATEWAY_HOST", "gw"), ("GENESYSCLOUD_GATEWAY_PROTOCOL", "http")],
                &["GENESYSCLOUD_GATEWAY_", "https"],
            ),
            (
                &[("GENESYSCLOUD_GATEWAY_HOST", "gw"), ("GENESYSCLOUD_GATEWAY_PATH_VALUE", "/x")],
                &["GENESYSCLOUD_GATEWAY_PATH_NAME", "login"],
            ),
            (
                &[("GENESYSCLOUD_GATEWAY_HOST", "gw"), ("GENESYSCLOUD_GATEWAY_AUTH_USERNAME", "u")],
                &["GENESYSCLOUD_GATEWAY_AUTH_USERNAME"],
            ),
            (
                &[("GENESYSCLOUD_GATEWAY_HOST", "gw"), ("GENESYSCLOUD_GATEWAY_AUTH_PASSWORD", "hush")],
                &["GENESYSCLOUD_GATEWAY_AUTH_PASSWORD", "agent's token"],
            ),
            (
                &[
                    ("GENESYSCLOUD_GATEWAY_HOST", "gw"),
                    ("GENESYSCLOUD_GATEWAY_PATH_NAME", "login"),
                    ("GENESYSCLOUD_GATEWAY_PATH_VALUE", "/Login/"),
                ],
                &["GENESYSCLOUD_GATEWAY_PATH_VALUE", "ends in api or login", "login_url"],
            ),
        ];
        for (set, named) in of_client {
            let error = client(set).expect_err("broken").to_string();
            assert!(named.iter().all(|word| error.contains(word)), "{set:?}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
        let of_credentials: &[(Variables, &str)] = &[
            (&[], "GENESYSCLOUD_OAUTHCLIENT_ID"),
            (&[("GENESYSCLOUD_OAUTHCLIENT_ID", "id")], "GENESYSCLOUD_OAUTHCLIENT_SECRET"),
            (&[("GENESYSCLOUD_OAUTHCLIENT_SECRET", "hush")], "GENESYSCLOUD_OAUTHCLIENT_ID"),
        ];
        for (set, named) in of_credentials {
            let error = Credentials::from_variables(&variables(set)).expect_err("broken").to_string();
            assert!(error.contains(named) && !error.contains("hush"), "{set:?}: {error}");
        }
    }

    #[test]
    fn a_file_holds_every_setting() {
        let config: ClientConfig = toml::from_str(
            r#"
            api_url = "http://127.0.0.1:1"
            login_url = "http://127.0.0.1:2"
            upload_url = "http://127.0.0.1:3"
            call_timeout = "1m 30s"
            attempt_timeout = "10s"
            max_in_flight = 50
            gzip = false
            [retry]
            attempts = 3
            factor = 1.5
            ride_out_outages = true
            "#,
        )
        .unwrap();
        assert_eq!(config.call_timeout, Some(Duration::from_secs(90)));
        let policy = config.retry_policy();
        assert_eq!((policy.attempts, policy.factor, policy.ride_out_outages), (3, 1.5, true));
        assert_eq!(policy.max_backoff, RetryPolicy::default().max_backoff);
        config.builder().unwrap().build().unwrap();
    }

    #[test]
    fn a_file_switches_off_what_the_builder_can() {
        let config: ClientConfig = toml::from_str(
            r#"
            region = "us-east-1"
            max_waiting = 0
            [retry]
            initial_backoff = "0s"
            max_backoff = "0ms"
            retry_after_cap = "0s"
            "#,
        )
        .unwrap();
        let policy = config.retry_policy();
        assert_eq!([policy.initial_backoff, policy.max_backoff, policy.retry_after_cap], [Duration::ZERO; 3]);
        assert_eq!(config.max_waiting, Some(0));
        config.builder().unwrap().build().unwrap();
        #[cfg(feature = "cache")]
        {
            let cache: CacheConfig = toml::from_str("time_to_live = \"0s\"\nstale_if_error = \"0s\"").unwrap();
            assert_eq!([cache.policy().time_to_live, cache.policy().stale_if_error], [Duration::ZERO; 2]);
        }
    }

    /// Each with what its error is to name; in JSON, whose own errors name no key, and in TOML.
    #[test]
    fn a_broken_file_is_told_by_the_key() {
        let broken: &[(&str, &[&str])] = &[
            (r#"{}"#, &["region", "us-east-1"]),
            (r#"{"region": "mars-1"}"#, &["region", "mars-1"]),
            (r#"{"region": 7}"#, &["region"]),
            (r#"{"regoin": "us-east-1"}"#, &["regoin", "region"]),
            (r#"{"region": "us-east-1", "api_url": "https://gw.example.com"}"#, &["region", "URL"]),
            (r#"{"api_url": "https://gw.example.com"}"#, &["login_url", "upload_url"]),
            (r#"{"region": "us-east-1", "call_timeout": 30}"#, &["call_timeout"]),
            (r#"{"region": "us-east-1", "call_timeout": "30"}"#, &["call_timeout", "30", "15s"]),
            (r#"{"region": "us-east-1", "attempt_timeout": "0s"}"#, &["attempt_timeout"]),
            (r#"{"region": "us-east-1", "max_in_flight": -1}"#, &["max_in_flight"]),
            (r#"{"region": "us-east-1", "max_in_flight": 0}"#, &["max_in_flight"]),
            (r#"{"region": "us-east-1", "max_body_bytes": 0}"#, &["max_body_bytes"]),
            (r#"{"region": "us-east-1", "login_throttle_timeout": "0s"}"#, &["login_throttle_timeout"]),
            (r#"{"region": "us-east-1", "gzip": "yes"}"#, &["gzip"]),
            (r#"{"region": "us-east-1", "retry": {"attempts": 0}}"#, &["retry", "attempts"]),
            (r#"{"region": "us-east-1", "retry": {"tries": 5}}"#, &["retry", "tries", "attempts"]),
            (r#"{"region": "us-east-1", "retry": {"factor": 0.5}}"#, &["retry", "factor"]),
            (r#"{"region": "us-east-1", "retry": 3}"#, &["retry"]),
            (r#"{"region": "us-east-1", "region": "us-east-1"}"#, &["region", "twice"]),
            (r#"{"region": "us-east-1", "proxy": "htp:/x"}"#, &["proxy"]),
            (r#"{"region": "us-east-1", "user_agent": "a\nb"}"#, &["user_agent"]),
        ];
        for (text, named) in broken {
            let error = match serde_json::from_str::<ClientConfig>(text) {
                Err(error) => error.to_string(),
                Ok(config) => config.builder().and_then(ClientBuilder::build).expect_err(text).to_string(),
            };
            assert!(named.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
        let error = toml::from_str::<ClientConfig>("region = \"us-east-1\"\ncall_timeout = \"soon\"").unwrap_err();
        assert!(error.to_string().contains("call_timeout"), "{error}");
        let config: ClientConfig = serde_json::from_str(r#"{"api_url": "https://gw.example.com"}"#).unwrap();
        assert!(config.place().unwrap_err().to_string().starts_with("login_url and upload_url are missing;"));
    }

    /// By a format that knows where it is.
    #[test]
    fn a_broken_file_is_told_by_the_place() {
        for (line, wrong) in [
            ("call_timeout = \"soon\"", "\"soon\""),
            ("call_timeout = 30", "30"),
            ("attempt_timeout = \"0s\"", "\"0s\""),
            ("max_in_flight = -1", "-1"),
            ("gzip = \"yes\"", "\"yes\""),
            ("retry = { attempts = 0 }", "{ attempts = 0 }"),
        ] {
            let text = format!("user_agent = \"desk\"\n{line}\nmax_waiting = 7\n");
            let error = toml::from_str::<ClientConfig>(&text).unwrap_err();
            assert_eq!(error.span().and_then(|place| text.get(place)), Some(wrong), "{error}");
        }
        for line in [
            "region = \"https://me:hush@api.mypurecloud.de\"",
            "proxy = { url = \"http://proxy:3128\", password = \"hush\" }",
            "prxy = \"http://a:hush@proxy:3128\"",
        ] {
            let error = toml::from_str::<ClientConfig>(&format!("user_agent = \"desk\"\n{line}\n")).unwrap_err();
            assert!(!error.to_string().contains("hush"), "{error}");
            // TOML's own `Display` shows the first line for want of a place.
            let error = toml::from_str::<ClientConfig>(&format!("{line}\nprxy = 1")).unwrap_err();
            assert!(!error.message().contains("hush"), "{error}");
        }
    }
}
