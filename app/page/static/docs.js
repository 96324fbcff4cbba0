// Swagger UI for keyboards and screen readers: examples that scroll can be focused, and fields have names.

const complete = () => {
  document.querySelectorAll(".swagger-ui .microlight:not([tabindex])").forEach((node) => (node.tabIndex = 0));
  document.querySelectorAll(".swagger-ui tr[data-param-name]").forEach((row) =>
    row.querySelectorAll("select, input, textarea").forEach((field) => field.setAttribute("aria-label", row.dataset.paramName)));
};
new MutationObserver(complete).observe(document.body, { childList: true, subtree: true });
