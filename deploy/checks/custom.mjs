// Judges custom Kubernetes objects by the validators that were generated from their published schemas. Reads a JSON array of objects, and
// prints one line for each problem. A property that the validator never looks at is not in the schema: in a cluster it would be dropped
// silently, so it is a problem too.
import { readFileSync } from "node:fs";

const VALIDATORS = {
  "gateway.networking.k8s.io/v1/HTTPRoute": "gateway-api/_schemas/IoK8sSigsGatewayApiApisV1HTTPRoute.js",
  "monitoring.coreos.com/v1/ServiceMonitor":
    "prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1ServiceMonitor.js",
  "monitoring.coreos.com/v1/PodMonitor":
    "prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1PodMonitor.js",
  "monitoring.coreos.com/v1/PrometheusRule":
    "prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1PrometheusRule.js",
  "cloud.google.com/v1/BackendConfig": "gke/_schemas/CloudGoogleComV1BackendConfig.mjs",
};

/// A view of the value that notes which properties were read, by their paths.
function watched(value, path, seen) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === "symbol" || !Object.hasOwn(target, key)) return target[key];
      seen.add(`${path}/${key}`);
      return watched(target[key], `${path}/${key}`, seen);
    },
  });
}

function* paths(value, path) {
  if (value === null || typeof value !== "object") return;
  for (const [key, inner] of Object.entries(value)) {
    yield `${path}/${key}`;
    yield* paths(inner, `${path}/${key}`);
  }
}

/// Labels and annotations are maps, whose keys no schema names.
const isFree = (path) => /^\/metadata\/(labels|annotations)\//.test(path);

for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const kind = `${object.apiVersion}/${object.kind}`;
  const name = `${kind} ${object.metadata?.name}`;
  if (!(kind in VALIDATORS)) {
    console.log(`${name}: no schema is known for this kind`);
    continue;
  }
  const { validate } = await import(`./node_modules/@kubernetes-models/${VALIDATORS[kind]}`);
  const seen = new Set();
  const errors = validate(watched(object, "", seen)) ? [] : validate.errors;
  for (const error of errors) console.log(`${name}: ${error.instancePath} ${error.message ?? error.keyword}`);
  for (const path of paths(object, "")) {
    if (!seen.has(path) && !isFree(path)) console.log(`${name}: ${path} is not in the schema`);
  }
}
