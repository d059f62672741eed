//! The routes beside the two protocols: the demo, and the bundles of the browser clients.

mod bundles;
mod demo;

use std::sync::Arc;

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::header::{self, CacheControl, CacheDirective, ETag, EntityTag, IfNoneMatch},
    web::{self, Bytes, ServiceConfig},
};
use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::config::Settings;
use bundles::Bundles;
use demo::Demo;

/// The files that are served beside the protocols.
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
    etag: EntityTag,
}

impl File {
    fn new(name: &str, body: Bytes) -> Self {
        let hash = Sha256::digest(&body);
        let etag = EntityTag::new_strong(URL_SAFE_NO_PAD.encode(&hash[..12]));
        let content_type = match name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "application/javascript; charset=utf-8",
            Some("json" | "map") => "application/json",
            Some("svg") => "image/svg+xml",
            _ => "application/octet-stream",
        };
        Self { body, content_type, etag }
    }

    /// Answers with the file, or with 304 if the browser has it.
    fn serve(&self, request: &HttpRequest) -> HttpResponse {
        let is_cached = match request.get_header::<IfNoneMatch>() {
            Some(IfNoneMatch::Any) => true,
            // A proxy that compresses makes the tag a weak one (RFC 9110 §13.1.2).
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&self.etag)),
            None => false,
        };
        let mut response = if is_cached { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header(CacheControl(vec![CacheDirective::Public, CacheDirective::MaxAge(0)]))
            .insert_header(ETag(self.etag.clone()))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
        if is_cached {
            return response.finish();
        }
        response.insert_header((header::CONTENT_TYPE, self.content_type)).body(self.body.clone())
    }
}
