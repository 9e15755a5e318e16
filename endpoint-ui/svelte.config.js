// Nothing beyond the defaults; the file tells the tools so.
export default {};
