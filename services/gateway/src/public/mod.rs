//! The routes beside the two protocols: the demo, and the bundles of the browser clients.

mod bundles;
mod demo;

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::{self, Bytes, ServiceConfig},
};
use anyhow::Result;

use crate::config::Settings;
use bundles::Bundles;
use demo::Demo;

/// What is served beside the protocols.
#[derive(Debug, Clone)]
pub struct Site {
    bundles: Arc<Bundles>,
    demo: Arc<Demo>,
}

impl Site {
    /// Loads the client bundles and prepares the demo.
    ///
    /// # Errors
    /// When the vendor directory cannot be read.
    pub fn load(settings: &Settings) -> Result<Self> {
        let bundles = Arc::new(Bundles::load(settings)?);
        let demo = Arc::new(Demo::new(settings, &bundles));
        Ok(Self { bundles, demo })
    }

    /// Adds the routes.
    pub fn routes(&self, routes: &mut ServiceConfig) {
        for bundle in self.bundles.paths() {
            let bundles = self.bundles.clone();
            let serve = move |request: HttpRequest| {
                let bundles = bundles.clone();
                async move { bundles.serve(&request) }
            };
            routes.route(&bundle, web::get().to(serve.clone()));
            routes.route(&bundle, web::head().to(serve));
        }
        let demo = self.demo.clone();
        let serve = move |request: HttpRequest, path: web::Path<String>| {
            let demo = demo.clone();
            async move { demo.serve(&request, &path) }
        };
        let redirect =
            async || HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/demo/")).finish();
        routes.route("/demo", web::get().to(redirect));
        routes.route("/demo", web::head().to(redirect));
        routes.route("/demo/{file:[a-z0-9.-]*}", web::get().to(serve.clone()));
        routes.route("/demo/{file:[a-z0-9.-]*}", web::head().to(serve));
    }
}

/// A file that is served from memory.
#[derive(Debug, Clone)]
struct File {
    body: Bytes,
    content_type: &'static str,
    etag: HeaderValue,
}

impl File {
    fn new(name: &str, body: Bytes) -> Self {
        // Changes with the content, and needs to be no stronger than that.
        let hash = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let etag = format!("\"{hash:016x}\"");
        let content_type = match name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "application/javascript; charset=utf-8",
            Some("json" | "map") => "application/json",
            Some("svg") => "image/svg+xml",
            _ => "application/octet-stream",
        };
        let etag = HeaderValue::from_str(&etag).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        Self { body, content_type, etag }
    }

    /// The file, or 304 where the browser has it.
    fn serve(&self, request: &HttpRequest) -> HttpResponse {
        let known = request.headers().get_all(header::IF_NONE_MATCH).filter_map(|known| known.to_str().ok());
        // A proxy that compresses makes the tag a weak one (RFC 9110 §13.1.2).
        let own = self.etag.to_str().unwrap_or_default();
        let has_it = known
            .flat_map(|known| known.split(','))
            .map(|known| known.trim().trim_start_matches("W/"))
            .any(|known| known == own || known == "*");
        let mut response = if has_it { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header((header::CACHE_CONTROL, "public, max-age=0"))
            .insert_header((header::ETAG, self.etag.clone()))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
        if has_it {
            return response.finish();
        }
        response.insert_header((header::CONTENT_TYPE, self.content_type)).body(self.body.clone())
    }
}
