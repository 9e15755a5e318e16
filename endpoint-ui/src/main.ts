// Where the page begins.

import { mount } from "svelte";
import { app } from "./state/app.svelte";
import "./style/tokens.css";
import "./style/base.css";
import App from "./view/App.svelte";

const target = document.getElementById("app");
if (target) {
  app.start();
  mount(App, { target });
}
