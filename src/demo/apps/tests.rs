//! All apps together over plain HTTP, behind a proxy that routes by `Host` as a sidecar does.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use axum::extract::State;
use http::{HeaderMap, HeaderValue, Uri, header};
use serde_json::Value;

use super::*;
use crate::demo::http::{Answer, Call, Client};

/// Sends each request to the app that its `Host` names, and writes down who asked whom as which user.
#[derive(Debug)]
struct HostProxy {
    apps: OnceLock<HashMap<&'static str, SocketAddr>>,
    seen: std::sync::Mutex<Vec<(String, Option<String>)>>,
    client: Client,
}

impl HostProxy {
    async fn forward(State(proxy): State<Arc<Self>>, uri: Uri, headers: HeaderMap) -> Response {
        let text =
            |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (host, user) = (text(header::HOST).unwrap(), text(headers::END_USER));
        proxy.seen.lock().unwrap().push((host.clone(), user));
        let Some(&to) = proxy.apps.get().unwrap().get(host.as_str()) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let call = Call { to, host: &host, path: uri.path(), headers, deadline: DEADLINE };
        let answer = proxy.client.get(call).await.unwrap();
        (answer.status, answer.body).into_response()
    }
}

const DEADLINE: Duration = Duration::from_secs(10);

struct Shop {
    page: SocketAddr,
    reviews: SocketAddr,
    proxy: Arc<HostProxy>,
    client: Client,
}

impl Shop {
    /// `without`: a service that nobody offers.
    async fn open(version: Version, without: &str) -> Self {
        let proxy = HostProxy { apps: OnceLock::new(), seen: std::sync::Mutex::default(), client: Client::new() };
        let proxy = Arc::new(proxy);
        let outbound = serve(Router::new().fallback(HostProxy::forward).with_state(Arc::clone(&proxy))).await;
        let start = async |app: App, version: Version| {
            let pod = format!("{}-{}", app.name(), version.name());
            serve(router(app, version, pod.into(), Upstream::new(outbound))).await
        };
        let reviews = start(App::Reviews, version).await;
        let mut apps = HashMap::from([
            ("details:9080", start(App::Details, Version::V1).await),
            ("reviews:9080", reviews),
            ("ratings:9080", start(App::Ratings, Version::V1).await),
        ]);
        apps.remove(without);
        proxy.apps.set(apps).unwrap();
        Self { page: start(App::Productpage, Version::V1).await, reviews, proxy, client: Client::new() }
    }

    async fn get(&self, to: SocketAddr, path: &str, headers: HeaderMap) -> Answer {
        self.client.get(Call { to, host: "shop", path, headers, deadline: DEADLINE }).await.unwrap()
    }

    async fn json(&self, to: SocketAddr, path: &str) -> Value {
        let answer = self.get(to, path, HeaderMap::new()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn reviews_show_stars_by_version() {
    let stars = |color: &str| serde_json::json!({ "stars": 5, "color": color });
    for (version, expected) in [(Version::V1, Value::Null), (Version::V2, stars("black")), (Version::V3, stars("red"))]
    {
        let shop = Shop::open(version, "").await;
        let answer = shop.json(shop.reviews, "/reviews/0").await;
        assert_eq!(answer["reviews"][0]["rating"], expected, "{version:?}");
        assert_eq!(answer["podname"], format!("reviews-{}", version.name()));
    }
}

#[tokio::test]
async fn the_page_shows_who_answered() {
    let shop = Shop::open(Version::V3, "").await;
    let answer = shop.get(shop.page, "/productpage", HeaderMap::new()).await;
    let html = answer.text();
    for part in ["data-pod=\"details-v1\"", "data-pod=\"reviews-v3\"", "productpage-v1", "class=\"red\"", "Shakespeare"]
    {
        assert!(html.contains(part), "{part} in {html}");
    }
    let mut hosts: Vec<_> = shop.proxy.seen.lock().unwrap().iter().map(|(host, _)| host.clone()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["details:9080", "ratings:9080", "reviews:9080"]);
}

#[tokio::test]
async fn a_signed_in_user_is_known_to_every_service() {
    let shop = Shop::open(Version::V2, "").await;
    let call = |path| Call { to: shop.page, host: "shop", path, headers: HeaderMap::new(), deadline: DEADLINE };
    let answer = shop.client.post_form(call("/login"), "username=jason&passwd=x").await.unwrap();
    assert_eq!(
        (answer.status, &answer.headers[header::LOCATION]),
        (StatusCode::FOUND, &"/productpage".parse().unwrap())
    );
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap();

    let cookie = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(cookie).unwrap())]);
    let html = shop.get(shop.page, "/productpage", cookie).await.text();
    assert!(html.contains("Signed in as <b>jason</b>"), "{html}");
    let seen = shop.proxy.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|(_, user)| user.as_deref() == Some("jason")), "{seen:?}");

    let refused = shop.client.post_form(call("/login"), "username=%0D%0Ax&passwd=x").await.unwrap();
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_user_header_from_outside_is_not_believed() {
    let shop = Shop::open(Version::V2, "").await;
    let forged = HeaderMap::from_iter([(headers::END_USER, HeaderValue::from_static("jason"))]);
    shop.get(shop.page, "/productpage", forged).await;
    let seen = shop.proxy.seen.lock().unwrap().clone();
    assert!(!seen.is_empty() && seen.iter().all(|(_, user)| user.is_none()), "{seen:?}");
}

#[tokio::test]
async fn a_missing_service_costs_its_part_and_reviews_are_asked_twice() {
    let shop = Shop::open(Version::V1, "reviews:9080").await;
    let answer = shop.get(shop.page, "/productpage", HeaderMap::new()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text().contains("data-service=\"reviews\" data-failed=\"404\""), "{}", answer.text());
    let asked = shop.proxy.seen.lock().unwrap().iter().filter(|(host, _)| host == "reviews:9080").count();
    assert_eq!(asked, 2);

    let shop = Shop::open(Version::V2, "ratings:9080").await;
    let answer = shop.json(shop.reviews, "/reviews/0").await;
    assert_eq!(answer["reviews"].as_array().unwrap().len(), 2);
    assert!(answer["reviews"][0]["rating"]["error"].is_string(), "{answer}");
}

#[tokio::test]
async fn the_api_has_the_original_paths() {
    let shop = Shop::open(Version::V2, "").await;
    assert_eq!(shop.json(shop.page, "/api/v1/products").await[0]["title"], "The Comedy of Errors");
    assert_eq!(shop.json(shop.page, "/api/v1/products/0").await["author"], "William Shakespeare");
    assert_eq!(shop.json(shop.page, "/api/v1/products/0/reviews").await["podname"], "reviews-v2");
    assert_eq!(shop.json(shop.page, "/api/v1/products/0/ratings").await["ratings"]["Reviewer2"], 4);
    assert_eq!(shop.json(shop.page, "/health").await["status"], "productpage is healthy");
    for (path, status) in
        [("/api/v1/products/7", StatusCode::NOT_FOUND), ("/api/v1/products/x", StatusCode::BAD_REQUEST)]
    {
        assert_eq!(shop.get(shop.page, path, HeaderMap::new()).await.status, status, "{path}");
    }
}
