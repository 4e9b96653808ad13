// REPOSITORY: where the program is published. doctor makes the environment and says what is missing.
const REPOSITORY = ""
const launcher = "{{platform === 'win32' ? 'launch.bat' : './launch.sh'}}"
module.exports = {
  run: [
    { when: "{{!exists('app')}}", method: "shell.run", params: { message: `git clone ${REPOSITORY} app` } },
    { method: "shell.run", params: { path: "app", env: { BLOCKSKIP_NO_PAUSE: "1" }, message: `${launcher} doctor` } },
  ],
}
