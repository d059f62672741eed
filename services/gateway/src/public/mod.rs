//! The routes beside the two protocols: the demo, the bundles of the browser clients, and files of one's own.

mod bundles;
mod demo;
mod directory;
mod file;

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse, guard,
    http::header,
    web::{self, ServiceConfig},
};
use anyhow::Result;

use crate::config::Settings;
use bundles::Bundles;
use demo::Demo;
use directory::Directory;

/// The files that are served beside the protocols.
#[derive(Debug, Clone)]
pub struct Site {
    bundles: Arc<Bundles>,
    demo: Arc<Demo>,
    directory: Option<Arc<Directory>>,
}

impl Site {
    /// Loads the client bundles and prepares the demo.
    ///
    /// # Errors
    /// When a file of the vendor directory, or the directory of `--static`, cannot be read.
    pub fn load(settings: &Settings) -> Result<Self> {
        let bundles = Arc::new(Bundles::load(settings)?);
        let demo = Arc::new(Demo::new(settings, &bundles));
        Ok(Self { bundles, demo, directory: Directory::open(settings)? })
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

    /// Adds the routes of `--static`, behind all others that are not the protocols' own.
    pub fn files(&self, routes: &mut ServiceConfig) {
        let Some(directory) = self.directory.clone() else { return };
        let asked = directory.clone();
        let is_asked = guard::fn_guard(move |context| {
            let head = context.head();
            asked.is_asked(&head.method, head.uri.path())
        });
        let serve = move |request: HttpRequest| directory.clone().serve(request);
        routes.service(web::resource("/{file:.*}").guard(is_asked).to(serve));
    }
}
