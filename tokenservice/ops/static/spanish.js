// Swagger UI speaks English alone. These are its words in Spanish, for the Spanish page.

const WORDS = {
  "Skip to operations": "Ir a las operaciones",
  "Failed to load API definition.": "No se pudo cargar la descripción de la API.",
  Servers: "Servidores",
  Schemas: "Esquemas",
  Errors: "Errores",
  Hide: "Ocultar",
  Show: "Mostrar",
  // Operations
  "Expand operation": "Abrir la operación",
  "Collapse operation": "Cerrar la operación",
  "Copy path to clipboard": "Copiar la ruta",
  Parameters: "Parámetros",
  "No parameters": "Sin parámetros",
  Name: "Nombre",
  Description: "Descripción",
  Type: "Tipo",
  "Available values": "Valores posibles",
  "Default value": "Valor por defecto",
  "Request body": "Cuerpo de la petición",
  "Request content type": "Tipo de contenido de la petición",
  "Examples:": "Ejemplos:",
  Examples: "Ejemplos",
  Example: "Ejemplo",
  "[Modified value]": "[Valor modificado]",
  smallest: "lo mínimo",
  bound: "con condiciones",
  "Example Value": "Valor de ejemplo",
  "Edit Value": "Editar el valor",
  Schema: "Esquema",
  Responses: "Respuestas",
  Code: "Código",
  Links: "Enlaces",
  "No links": "Sin enlaces",
  "Media type": "Tipo de contenido",
  "Media Type": "Tipo de contenido",
  Controls: "Rige la cabecera", // "Controls Accept header."
  "header.": ".",
  "Headers:": "Cabeceras:",
  // Try it out
  "Try it out": "Probar",
  Cancel: "Cancelar",
  Reset: "Restablecer",
  Execute: "Ejecutar",
  Clear: "Limpiar",
  Add: "Añadir",
  item: "elemento",
  "Send empty value": "Enviar vacío",
  "Please correct the following validation errors and try again.":
    "Corrige estos errores y vuelve a intentarlo.",
  "Required field is not provided": "Falta este campo obligatorio",
  "Value must be an integer": "Debe ser un número entero",
  "Value must be a boolean": "Debe ser true o false",
  "Copy cURL command to clipboard": "Copiar el comando curl",
  "Copy code to clipboard": "Copiar el código",
  "Request URL": "Dirección de la petición",
  "Server response": "Respuesta del servidor",
  Details: "Detalles",
  Undocumented: "Sin documentar",
  "Response body": "Cuerpo de la respuesta",
  "Response headers": "Cabeceras de la respuesta",
  "Request duration": "Duración de la petición",
  Download: "Descargar",
  "Unrecognized response type; displaying content as text.":
    "Tipo de respuesta desconocido; se muestra como texto.",
  "Failed to fetch.": "No se pudo enviar la petición.",
  "Possible Reasons:": "Causas posibles:",
  "Network Failure": "Un fallo de la red",
  'URL scheme must be "http" or "https" for CORS request.':
    'Para CORS, la dirección debe empezar por "http" o "https".',
  // Authorization
  Authorize: "Autorizar",
  "authorization button unlocked": "Autorizar; ahora sin credenciales",
  "authorization button locked": "Autorizar; ahora con credenciales",
  "Available authorizations": "Autorizaciones disponibles",
  "Value:": "Valor:",
  "auth-bearer-value": "Valor",
  Authorized: "Autorización puesta",
  Logout: "Quitar",
  Close: "Cerrar",
  "Scopes are used to grant an application different levels of access to data on behalf of the end user. Each API may declare one or more scopes.":
    "Los scopes dan a un programa más o menos acceso a los datos en nombre de una cuenta. Cada API declara los suyos.",
  "API requires the following scopes. Select which ones you want to grant to Swagger UI.":
    "Esta API pide los scopes siguientes. Elige los que das a esta página.",
  "Token URL:": "Dirección del token:",
  "Flow:": "Flujo:",
  "Client credentials location:": "Lugar de las credenciales del cliente:",
  "Authorization header": "Cabecera Authorization",
  "select all": "elegir todos",
  "select none": "no elegir ninguno",
  // Schemas
  "Expand all": "Abrir todo",
  "Collapse all": "Cerrar todo",
  Items: "Elementos",
  Enum: "Valores",
  Const: "Valor",
  Default: "Por defecto",
  "All of": "Todos estos",
  "Any of": "Alguno de estos",
  "One of": "Uno de estos",
  "Additional properties": "Otras propiedades",
  allowed: "se admiten",
  "read-only": "solo lectura",
  "empty array": "lista vacía",
  "empty object": "objeto vacío",
};
// Words around a value.
const FRAMES = [
  [/^For '(.+)': (.+)\.$/, (name, error) => `En '${name}': ${inSpanish(error)}.`],
  [/^Value must follow pattern (.+)$/s, (pattern) => `Debe seguir el patrón ${pattern}`],
  [/^Value must be less than or equal to (.+)$/, (most) => `Debe ser como mucho ${most}`],
  [/^Value must be greater than or equal to (.+)$/, (least) => `Debe ser como mínimo ${least}`],
  [/^matches (.+)$/s, (pattern) => `sigue ${pattern}`],
  [/^((?:[≤≥] |\[)[\d, ]+\]?) characters$/, (range) => `${range} caracteres`],
  [/^((?:[≤≥] |\[)[\d, ]+\]?) items$/, (range) => `${range} elementos`],
];
// What an element has for its text, beside that.
const ATTRIBUTES = ["aria-label", "title", "placeholder"];
// Texts of others: of the service, or of the reader.
const FOREIGN = "pre, code, textarea";

function inSpanish(text) {
  const words = text.trim();
  if (Object.hasOwn(WORDS, words)) return text.replace(words, () => WORDS[words]);
  for (const [frame, said] of FRAMES) {
    const found = words.match(frame);
    if (found) return text.replace(words, () => said(...found.slice(1)));
  }
  return text;
}

// React knows what it wrote, and not what stands there: as long as a node stays in its place, it
// may say something else. A node of English is written anew when React changes it, and is then
// translated again.
function translateText(node) {
  if (node.parentElement === null || node.parentElement.closest(FOREIGN)) return;
  const said = inSpanish(node.nodeValue);
  if (said !== node.nodeValue) node.nodeValue = said;
}

function translateAttributes(element) {
  for (const name of ATTRIBUTES) {
    const said = inSpanish(element.getAttribute(name) ?? "");
    if (said !== (element.getAttribute(name) ?? "")) element.setAttribute(name, said);
  }
}

function translate(node) {
  if (node.nodeType === Node.TEXT_NODE) translateText(node);
  if (node.nodeType !== Node.ELEMENT_NODE) return;
  translateAttributes(node);
  node.childNodes.forEach(translate);
}

new MutationObserver((changes) => {
  for (const { type, target, addedNodes } of changes) {
    if (type === "attributes") translateAttributes(target);
    else if (type === "characterData") translateText(target);
    else addedNodes.forEach(translate);
  }
}).observe(document.getElementById("swagger-ui"), {
  subtree: true,
  childList: true,
  characterData: true,
  attributes: true,
  attributeFilter: ATTRIBUTES,
});
