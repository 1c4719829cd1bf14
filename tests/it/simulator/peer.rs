//! A plain client: it sends what it is told and shows what came back.

use genesys_scripts::simulator::{Simulator, SimulatorBuilder};
use reqwest::{Method, StatusCode, header::HeaderMap};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, RequestBuilder};
use serde_json::Value;

pub(crate) const CLIENT: &str = "4e1d0c3a-6f0b-4d55-8a6e-0d9f3c1b2a77";

/// A simulator in this process, with a client of its own. No latency unless a test asks for it.
pub(crate) struct Peer {
    pub(crate) simulator: Simulator,
    pub(crate) http: ClientWithMiddleware,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// Asserts the envelope of the service's errors, with its id in the header too.
    pub(crate) fn refused(&self, status: u16, code: &str, message: &str) {
        let body = self.json();
        assert_eq!(self.status, status, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["message"], message);
        assert_eq!(body["contextId"].as_str(), self.header("ININ-Correlation-Id"));
        assert!(body["details"].is_array() && body["errors"].is_array(), "{body}");
    }
}

pub(crate) fn builder() -> SimulatorBuilder {
    Simulator::builder().latency(std::time::Duration::ZERO)
}

/// reqwest alone, which wants a crypto provider of the process even where all is http.
pub(crate) fn plain_http() -> reqwest::Client {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

pub(crate) fn peer() -> Peer {
    Peer::of(builder())
}

impl Peer {
    pub(crate) fn of(builder: SimulatorBuilder) -> Self {
        let simulator = builder.in_process().expect("settings are good");
        let http = ClientBuilder::new(plain_http()).with(simulator.transport()).build();
        Self { simulator, http }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.simulator.url()))
    }

    pub(crate) async fn login(&self) -> String {
        self.login_as(CLIENT).await
    }

    pub(crate) async fn login_as(&self, client: &str) -> String {
        let reply = self.token(Some((client, "simulator")), &[("grant_type", "client_credentials")]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["access_token"].as_str().expect("a token").to_owned()
    }

    /// A request to the token endpoint.
    pub(crate) async fn token(&self, basic: Option<(&str, &str)>, form: &[(&str, &str)]) -> Reply {
        let mut body = reqwest::Url::parse("x:").expect("url");
        body.query_pairs_mut().extend_pairs(form);
        let mut request = self
            .request(Method::POST, "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.query().unwrap_or_default().to_owned());
        if let Some((id, secret)) = basic {
            request = request.basic_auth(id, Some(secret));
        }
        send(request).await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Reply {
        send(self.request(Method::GET, path).bearer_auth(token)).await
    }

    pub(crate) async fn delete(&self, token: &str, path: &str) -> Reply {
        send(self.request(Method::DELETE, path).bearer_auth(token)).await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: &str) -> Reply {
        let request = self.request(Method::POST, path).bearer_auth(token);
        send(request.header("content-type", "application/json").body(body.to_owned())).await
    }

    /// Uploads a file and waits for its end.
    pub(crate) async fn import(&self, token: &str, file: &str, fields: &[(&str, &str)]) -> Value {
        let reply = self.upload(token, file, fields).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let upload = reply.json()["correlationId"].as_str().expect("an upload id").to_owned();
        self.get(token, &format!("/api/v2/scripts/uploads/{upload}/status?longPoll=true")).await.json()
    }

    pub(crate) async fn upload(&self, token: &str, file: &str, fields: &[(&str, &str)]) -> Reply {
        let boundary = "a-boundary";
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"script.json\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n{file}\r\n"
        );
        for (name, value) in fields {
            body += &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        body += &format!("--{boundary}--\r\n");
        let request = self.request(Method::POST, "/uploads/v2/scripter").bearer_auth(token);
        send(request.header("content-type", format!("multipart/form-data; boundary={boundary}")).body(body)).await
    }

    pub(crate) fn script_id(&self, index: usize) -> String {
        self.simulator.script_ids().swap_remove(index)
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, bytes: response.bytes().await.expect("a body").to_vec() }
}
