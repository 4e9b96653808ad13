// The menu of BlockSkip Studio in Pinokio. The program lies in app/ and makes its own environment there.
module.exports = {
  version: "3.2",
  title: "BlockSkip Studio",
  description: "Teach an image model what your pet looks like: LoRA training on cards of 4 to 24 GB",
  icon: "icon.png",
  menu: async (kernel, info) => {
    const item = (text, href, icon, isDefault = false) => ({ text, href, icon: `fa-solid fa-${icon}`, default: isDefault })
    const busy = { install: "Installing", update: "Updating", reset: "Resetting" }
    for (const [name, words] of Object.entries(busy)) {
      if (info.running(`${name}.js`)) return [item(words, `${name}.js`, "plug", true)]
    }
    if (!info.exists("app/.venv")) return [item("Install", "install.js", "plug", true)]
    if (info.running("start.js")) {
      const { url } = info.local("start.js") || {}
      const terminal = item("Terminal", "start.js", "terminal", !url)
      return url ? [item("Open the studio", url, "rocket", true), terminal] : [terminal]
    }
    return [
      item("Start", "start.js", "power-off", true),
      item("Update", "update.js", "rotate"),
      item("Install again", "install.js", "plug"),
      item("Reset", "reset.js", "circle-xmark"),
    ]
  },
}
