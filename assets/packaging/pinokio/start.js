// The address has the key of this launch, without which the studio lets nobody in.
const launcher = "{{platform === 'win32' ? 'launch.bat' : './launch.sh'}}"
module.exports = {
  daemon: true,
  run: [
    {
      method: "shell.run",
      params: {
        path: "app",
        env: { BLOCKSKIP_NO_PAUSE: "1" },
        message: `${launcher} studio --no-browser`,
        on: [{ event: "/http:\\/\\/127\\.0\\.0\\.1:\\S+/", done: true }],
      },
    },
    { method: "local.set", params: { url: "{{input.event[0]}}" } },
  ],
}
